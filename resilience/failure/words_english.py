# ruff: noqa: ISC004 - the words of one concept are one string over several lines
"""English words by what they mean. No entry is a provider's sentence; see `lexicon.py`.

To teach a word, add it to the line of its concept, in its shortest form: the regular endings follow.
"""

from __future__ import annotations

from typing import Final

from resilience.failure.concepts import Concept

C = Concept

ENGLISH: Final[tuple[tuple[Concept, str], ...]] = (
    # Money, plans and allowances. What is missing, spent or reached is said by a word of its own: "unpaid" is one, "credit" is not.
    (C.MONEY, "credit balance billed bills invoice payment pay fund wallet prepaid prepayment deposit afford spend spending "
              "spent budget debt money usd dollar euro payg expense expenditure fee charge cash currency voucher coupon unfunded"),
    (C.MONEY | C.LACKING, "arrears arrearage overdue unpaid delinquent unfunded overdraft overdrawn"),
    (C.BILLING, "billing"),
    # A server with too much to do: "high demand". Advice to raise a limit is read apart from the limit.
    (C.HIGH, "high heavy peak excessive elevated increased unprecedented"),
    (C.RAISE, "raise increase higher"),
    (C.TRAFFIC, "traffic demand volume load"),
    (C.FEATURE, "feature mode throughput streaming vision modality capability"),
    (C.MEDIA, "image file audio video pdf attachment mb photo screenshot picture"),
    (C.PLAN, "plan tier trial subscription subscriber subscribe upgrade premium license licence membership"),
    (C.BUY, "purchase buy recharge topup replenish refill reload"),
    # Periods. A limit of a minute is one of pace, a limit of a month is an allowance. A session is five hours.
    (C.LONG_PERIOD, "day daily week weekly month monthly year yearly annual session today tpd rpd fortnight quarterly"),
    (C.HOUR, "hour hourly"),
    (C.SHORT_PERIOD, "minute second sec secs mins rpm tpm qps qpm rps tps ipm"),
    (C.CONCURRENT, "concurrent concurrency simultaneous parallel burst inflight"),
    (C.QUOTA, "quota allowance allotment allot allocation entitlement"),
    (C.LIMIT, "limit cap maximum max ceiling threshold limited limitation restriction"),
    (C.USAGE, "usage consumption"),
    (C.THROTTLE, "throttle throttling throttled ratelimit ratelimited ratelimiter cooldown"),
    (C.REQUEST, "request call query invocation rate prediction"),
    # What a request consists of, and how much of it. "Text" is in too many sentences to mean the input.
    (C.TOKEN, "token"),
    (C.INPUT, "prompt input message conversation history sequence document payload"),
    (C.CONTEXT, "context ctx"),
    (C.OUTPUT, "output completion generation"),
    (C.SIZE, "length size long large big window character char byte longer larger bigger"),
    (C.TOO_BIG, "oversized"),
    (C.OVER, "exceed over surpass beyond overflow cross above greater overrun overage exceeding overshoot"),
    (C.REACHED, "reach hit capped maxed"),
    (C.SPENT, "exhaust exhaustion deplete drain consumed expended"),
    (C.LACKING, "insufficient inadequate negative insufficiency zero empty shortage shortfall scarce"),
    (C.LITTLE, "low few"),
    (C.REDUCE, "reduce shorten decrease truncate trim shorter smaller fewer compress condense shrink summarize"),
    # Models, and that they do not exist.
    (C.MODEL, "model deployment engine endpoint checkpoint"),
    (C.ABSENT, "nonexistent deprecated deprecating decommissioned retired removed legacy "
               "discontinued sunset gone undeployed obsolete deleted withdrawn defunct archived unregistered eol "
               "unlisted delisted"),
    (C.UNSUPPORTED, "unsupported incompatible"),
    (C.UNKNOWN, "unknown unrecognized unrecognised unidentified"),
    # Who asks, and what they may do. "Role" is left out: it is one of messages as well as one of an account.
    (C.CREDENTIAL, "key apikey credential jwt oauth bearer password secret passphrase"),
    (C.AUTHENTICATE, "authentication authenticate unauthenticated unauthorized unauthorised login signature authn auth signin sso "
                     "unauthorized"),
    (C.INVALID, "invalid incorrect wrong expire lapse missing malformed revoke bad misconfigured mismatch unset illegal "
                "unprocessable corrupt corrupted erroneous improper faulty leaked compromised illformed"),
    (C.ENDED, "expire lapse cancelled canceled ended"),
    (C.ACCOUNT, "account organization organisation org team user project workspace tenant caller customer consumer"),
    (C.ACCESS, "access permission authorize authorise privilege entitled scope"),
    (C.FORBIDDEN, "forbidden denied deny prohibit disallow unauthorised restrict ineligible gated barred"),
    (C.SUSPENDED, "suspend ban disable deactivate terminated blacklist locked frozen freeze deactivation denylist blocklisted inactive"),
    (C.PLACE, "country region territory location geography geographic jurisdiction embargo embargoed sanctioned geo"),
    # What may be said. "Explicit" and "block" are left out: permissions are denied explicitly, and content has blocks.
    (C.CONTENT, "content moderation moderate moderated"),
    (C.POLICY, "policy guideline safety guardrail filter filtering terms"),
    (C.HARM, "harmful unsafe inappropriate sensitive violate violation violative nsfw sexual violence hate offensive toxic "
             "risk jailbreak csam disallowed cybersecurity biosecurity moderation pornographic "
             "profanity profane abusive abuse suicide terrorism terrorist gore injection malicious pii breach infringe "
             "infringement contravene extremist bullying fraud objectionable"),
    (C.BLOCKED, "blocked blocking reject refuse flag decline trigger intervene suppress withhold withheld censor intercept"),
    # The state of a server.
    (C.BUSY, "overload busy congest congestion saturate overwhelm overcapacity backlog swamped strained contention backpressure bottleneck"),
    (C.DOWN, "unavailable offline outage unhealthy unreachable downtime inoperative disruption incident"),
    (C.DOWN | C.ASLEEP, "degrade drain maintenance warming warmup starting booting loading initializing initialising cold warm "
                        "draining sleeping asleep hibernate restart provisioning"),
    (C.DOWN | C.ASLEEP | C.SUSPENDED, "paused"),
    (C.SERVICE, "service server system upstream backend provider gateway cluster worker instance replica node function "
                "servers inference"),
    (C.TEMPORARY, "temporarily temporary currently momentarily intermittent shortly transient momentary briefly"),
    (C.WAIT, "wait retry later slow"),
    (C.TIMEOUT, "timeout timedout deadline"),
    (C.BROKEN, "crash panic traceback exception bug segfault oom errored dead died killed fatal unrecoverable"),
    (C.CONNECTION, "connection network socket dns tls ssl connect hostname"),
    (C.FAILED, "fail failure abort lost issue problem refused dropped"),
    # The request itself.
    (C.PARAMETER, "parameter param field property argument schema json format header attribute tool temperature effort verbosity penalty"),
    (C.REQUIRED, "require required need must"),
    (C.RESET, "reset renew renewal"),
    # Words that turn others around. "doesn" is what is left of "doesn't" where the apostrophe is lost.
    (C.NOT, "not no never cannot unable without none neither nor non lack lacking didn isn doesn wasn aren hasn haven don won couldn"),
    (C.TOO, "too"),
)  # fmt: skip
"""English, without its endings."""

TOGETHER: Final[tuple[tuple[Concept, str], ...]] = (
    (C.THROTTLE, "token bucket | rate limit | rate limits | rate limited | rate limiting | rate limiter | slow down | request rate | limit rate "
                 "| usage rate | rate exceeded | rate increased | call frequency | request frequency | access frequency | access limit | frequency limit | too rapidly "
                 "| frequency exceeds | frequency exceeded | too often | flow limit | call rate | rate quota | rate reached | flow control"),
    (C.TOO_MANY, "too many"),
    (C.THROTTLE, "cooling down | cool down | too frequent | too frequently | too fast | too quickly"),
    (C.MONEY, "resource pack | resource package | charge resource"),
    (C.MONEY | C.BUY, "top up | add credit | add credits | add funds | buy credits | purchase credits | add balance | more credits "
                "| valid payment | card was | card declined | payment method | credit card"),
    (C.MONEY | C.LACKING, "past due | payment required | payment failed | good standing | only afford | over budget | not paid"),
    (C.SPENT, "out of | run out | ran out | used up | used all | fully used | using up | none left | consumed all | use up "
              "| no remaining"),
    (C.USAGE | C.LACKING, "characters remaining | credits remaining"),
    (C.LACKING, "not enough | too low | less than"),
    (C.BUSY, "high demand | high load | heavy load | peak load | high traffic | heavy traffic | high volume | at capacity | over capacity "
             "| no capacity | of capacity | capacity exceeded | capacity exhausted | insufficient capacity | capacity limit | queue full "
             "| queue is | pending requests | no slots | overloaded capacity | capacity available | capacity temporarily | enough capacity "
             "| slots are | all slots | workers busy | all workers | no gpus | no gpu | gpus available | too busy | many people | many users "
             "| capacity issues | full capacity | limited capacity | resource contention | much work | queue length | compute capacity "
             "| capacity constraints | queue exceeded | server capacity | model capacity | capacity reached | queue capacity"),
    (C.CREDENTIAL, "api key | api keys | access token | bearer token | auth token | api token | id token | refresh token | security token "
                   "| session token | secret key | access key | token expired | token revoked | revoked token | expired token | token invalid | invalid token | token has | auth header "
                   "| authorization header | service account"),
    (C.AUTHENTICATE, "log in | sign in | logged in | signed in | not authenticated | login fail | login failed | re authenticate | re authorize | refresh access"),
    (C.ABSENT, "non serverless | phased out | turned off | end of | no longer | such model | not exist | not found | no such | no endpoints | not deployed "),
    (C.LIMIT, "at most | up to | range of"),
    (C.OVER, "more than | than allowed | than permitted | higher than | than supported"),
    (C.INPUT, "in request | request has | request contains"),
    # A budget for thinking is a number of tokens and a field of the request; a required key is one of JSON.
    (C.PARAMETER, "thinking budget | reasoning budget | budget tokens | input request | required key | extraneous key"),
    (C.FEATURE, "chat completion | chat completions | function calling | tool calling | tool use"),
    # Of two that exclude each other, and of a schema that is violated.
    (C.PARAMETER | C.INCAPABLE, "mutually exclusive | schema violation | schema violations"),
    (C.CONTENT | C.HARM, "sensitive word | sensitive words"),
    # Local servers put messages through a template, which refuses roles that do not alternate.
    (C.INVALID | C.PARAMETER, "cannot pass | cannot specify | cannot combine | cannot mix | be empty | invalid url | invalid uri | jinja template | jinja exception | rendering prompt | chat template"),
    # An address is a place where a list says who may ask.
    (C.PLACE, "ip banned | ip blocked | your ip | ip not | client ip | source ip"),
    # "No" reaches what follows, but a key is missing, not lacking.
    (C.ENDED, "has ended | have ended | is over"),
    (C.INVALID, "no api | no key | no credentials | load credentials | has ended | have ended | is over"),
    (C.SUSPENDED, "bad standing"),
    (C.FORBIDDEN, "verify your | complete verification | identity verification"),
    (C.SUSPENDED, "not active | been disabled | be verified | is inactive | not verified | been suspended"),
    (C.DOWN | C.ASLEEP, "not ready | shutting down | starting up | spinning up | scaling up | cold start | no healthy | not running | not loaded "
                        "| not healthy | being loaded | scaling from | being restarted | being deployed | warm up | shut down | still loading | load model | loading model | scaled to"),
    (C.DOWN, "not available | are down | went down | currently down | temporarily down | is down | no available | to process"),
    (C.TIMEOUT, "max runtime | maximum runtime | time limit | execution time | runtime limit | timed out | time out | took too | respond in | respond within | within time | upstream timing"),
    (C.BROKEN, "bad gateway | cuda error | device side | internal error | internal server | internal exception | server error | went wrong | of memory "
               "| unexpected error | unknown error | system error | unexpectedly stopped | process has | has crashed"),
    (C.CONTENT | C.POLICY, "usage rules | content rules | content policies | content guidelines | safety checks | safety guidelines "
                  "| safety policy | safety policies | content policy | usage policy | usage policies | usage guidelines | acceptable use | content management | content filter "
                  "| safety system | responsible ai | prompt was | terms of | community guidelines | safety filter | safety check "
                  "| safety reasons | safety settings | content safety | content moderation"),
    (C.CONTEXT | C.SIZE, "context window | context length | context size | context limit | max context | maximum context | token count "
                         "| sequence length | model length | prompt length | input length | prompt tokens | input tokens | max prompt "
                         "| max input"),
    (C.OUTPUT, "max tokens | max new | max completion | completion tokens | output tokens | max output | maximum tokens | response content | completion tokens"),
    (C.LONG_PERIOD, "per day | per month | per week | a day | a month | each day | each month | this month | billing cycle | billing period"),
    (C.SHORT_PERIOD, "per minute | per second | per min | per sec | a minute | a second | each minute | given time | time window"),
    (C.TOO_BIG, "too long | too large | too big | entity too | larger than "
                "| longer than | bigger than | not fit"),
    (C.REDUCE, "shorter prompt | smaller prompt"),
    (C.WAIT, "try again | again later | retry after | retry in | back off"),
    (C.PLAN, "free allocated | free requests | free credits | free trial | free tokens | free messages | free daily | free account | free users "
            "| free version | free quotas | free tier | paid plan | free plan | free model | free models | paid tier | free usage | free quota | free allocation "
             "| current quota"),
    (C.FORBIDDEN, "not allowed | not permitted | not authorized | not authorised | not entitled | no permission | no access "
                  "| not eligible | not enabled | only available | only be | allowed only "
                  "| not granted | not included"),
    (C.FORBIDDEN | C.SUSPENDED, "been blocked"),
    (C.UNSUPPORTED, "not supported | not compatible"),
    (C.INCAPABLE, "not support | not handle"),
    (C.INVALID, "not valid | not set | not provided | not recognized | not correct | not configured | is required | are required "
                "| not match | not passed | not supplied"),
)  # fmt: skip
"""Two English words that mean more together than alone."""

NEGATIONS: Final[tuple[tuple[Concept, str], ...]] = (
    (C.ABSENT, "find found named exist exists resolve resolved locate located recognized recognised deployed registered catalog catalogue listed "
               "installed downloaded pulled hosted"),
    (C.UNSUPPORTED, "supported"),
    (C.INCAPABLE, "support"),
    (C.DOWN, "ready available healthy running loaded responding reachable respond invoked process serve"),
    (C.FORBIDDEN, "allow allowed permitted authorized authorised entitled eligible permission permissions access privileges enabled "
                  "activated granted opened included member allowlist whitelist whitelisted allowlisted"),
    (C.LACKING, "enough sufficient credits credit balance funds money quota paid payment remaining left afford allowance credit purchased"),
    (C.INVALID | C.PARAMETER, "specified"),
    (C.INVALID, "valid set provided provide supply correct configured match passed supplied parse recognized"),
    (C.SUSPENDED, "active verified"),
    (C.TOO_BIG, "fit fits"),
    (C.BUSY, "capacity slots gpus gpu workers"),
    (C.TIMEOUT, "within"),
    # Other languages: "nicht verfügbar", "n'existe pas", "non valida".
    (C.ABSENT, "gefunden existiert trouvé trouvée trouvés encontrado encontrada trovato trovata"),
    (C.DOWN, "verfügbar erreichbar disponibile disponível доступен доступна"),
    (C.LACKING, "ausreichend genug suffisant suffisants suficiente suficientes sufficiente достаточно"),
    (C.INVALID, "gültig valide válida válido valida valido действителен"),
    (C.FORBIDDEN, "berechtigt erlaubt zulässig autorisé autorisée autorizado autorizada autorizzato"),
    (C.UNSUPPORTED, "unterstützt soportado soportada supportato supportata suportado поддерживается"),
)  # fmt: skip
"""What a word means behind a negation: "could not be found", "does not have any credits"."""
