# ruff: noqa: ISC004 - the words of one concept are one string over several lines
"""English words by what they mean. No entry is a provider's sentence; see `lexicon.py`.

To teach a word, add it to the line of its concept, in its shortest form: the regular endings follow.
"""

from __future__ import annotations

from typing import Final

from resilience.failure.concepts import Concept

C = Concept

ENGLISH: Final[tuple[tuple[Concept, str], ...]] = (
    (C.MONEY, "credit balance billed bills invoice payment pay fund wallet prepaid prepayment deposit afford spend spending "
              "spent budget debt money usd dollar euro payg"),
    (C.MONEY | C.LACKING, "arrears arrearage overdue unpaid delinquent"),
    (C.BILLING, "billing"),
    (C.HIGH, "high heavy peak excessive elevated increased unprecedented"),
    (C.RAISE, "raise increase higher"),
    (C.TRAFFIC, "traffic demand volume load"),
    (C.FEATURE, "feature mode throughput streaming vision modality capability"),
    (C.MEDIA, "image file audio video pdf attachment mb photo screenshot picture"),
    (C.PLAN, "plan tier trial subscription subscriber subscribe upgrade premium"),
    (C.BUY, "purchase buy recharge topup replenish refill"),
    (C.LONG_PERIOD, "day daily week weekly month monthly year yearly annual session today tpd rpd"),
    (C.HOUR, "hour hourly"),
    (C.SHORT_PERIOD, "minute second rpm tpm qps qpm rps tps ipm"),
    (C.CONCURRENT, "concurrent concurrency simultaneous parallel burst inflight"),
    (C.QUOTA, "quota allowance allotment allocation entitlement"),
    (C.LIMIT, "limit cap maximum max ceiling threshold limited limitation"),
    (C.USAGE, "usage consumption"),
    (C.THROTTLE, "throttle throttling throttled ratelimit ratelimited ratelimiter"),
    (C.REQUEST, "request call query invocation rate prediction"),
    (C.TOKEN, "token"),
    (C.INPUT, "prompt input message conversation history sequence document payload"),
    (C.CONTEXT, "context ctx"),
    (C.OUTPUT, "output completion generation"),
    (C.SIZE, "length size long large big window character char byte longer larger bigger"),
    (C.TOO_BIG, "oversized"),
    (C.OVER, "exceed over surpass beyond overflow cross above greater overrun overage exceeding"),
    (C.REACHED, "reach hit"),
    (C.SPENT, "exhaust deplete drain consumed"),
    (C.LACKING, "insufficient inadequate negative insufficiency zero empty"),
    (C.LITTLE, "low few"),
    (C.REDUCE, "reduce shorten decrease truncate trim shorter smaller fewer"),
    (C.MODEL, "model deployment engine endpoint checkpoint"),
    (C.ABSENT, "nonexistent deprecated deprecating decommissioned retired removed legacy "
               "discontinued sunset gone undeployed obsolete"),
    (C.UNSUPPORTED, "unsupported incompatible"),
    (C.UNKNOWN, "unknown unrecognized unrecognised"),
    (C.CREDENTIAL, "key apikey credential jwt oauth bearer password secret"),
    (C.AUTHENTICATE, "authentication authenticate unauthenticated unauthorized unauthorised login signature authn "
                     "unauthorized"),
    (C.INVALID, "invalid incorrect wrong expire lapse missing malformed revoke bad misconfigured mismatch unset illegal "
                "unprocessable"),
    (C.ACCOUNT, "account organization organisation org team user project workspace tenant caller customer"),
    (C.ACCESS, "access permission authorize authorise privilege entitled scope"),
    (C.FORBIDDEN, "forbidden denied deny prohibit disallow unauthorised restrict"),
    (C.SUSPENDED, "suspend ban disable deactivate terminated blacklist locked"),
    (C.PLACE, "country region territory location geography geographic"),
    (C.CONTENT, "content moderation moderate moderated"),
    (C.POLICY, "policy guideline safety guardrail filter filtering terms"),
    (C.HARM, "harmful unsafe inappropriate sensitive violate violation violative nsfw sexual violence hate offensive toxic "
             "risk jailbreak csam disallowed cybersecurity biosecurity moderation pornographic"),
    (C.BLOCKED, "blocked blocking reject refuse flag decline trigger intervene"),
    (C.BUSY, "overload busy congest congestion saturate overwhelm overcapacity backlog"),
    (C.DOWN, "unavailable offline outage unhealthy unreachable"),
    (C.DOWN | C.ASLEEP, "degrade drain maintenance warming warmup starting booting loading initializing initialising cold warm "
                        "draining sleeping asleep hibernate restart provisioning"),
    (C.DOWN | C.ASLEEP | C.SUSPENDED, "paused"),
    (C.SERVICE, "service server system upstream backend provider gateway cluster worker instance replica node function "
                "servers inference"),
    (C.TEMPORARY, "temporarily temporary currently momentarily intermittent shortly"),
    (C.WAIT, "wait retry later slow"),
    (C.TIMEOUT, "timeout timedout deadline"),
    (C.BROKEN, "crash panic traceback exception bug segfault oom errored dead died"),
    (C.CONNECTION, "connection network socket dns tls ssl connect hostname"),
    (C.FAILED, "fail failure abort lost issue problem refused dropped"),
    (C.PARAMETER, "parameter param field property argument schema json format header attribute tool temperature"),
    (C.REQUIRED, "require required need must"),
    (C.RESET, "reset renew renewal"),
    (C.NOT, "not no never cannot unable without none neither nor non"),
    (C.TOO, "too"),
)  # fmt: skip
"""English, without its endings."""

TOGETHER: Final[tuple[tuple[Concept, str], ...]] = (
    (C.THROTTLE, "token bucket | rate limit | rate limits | rate limited | rate limiting | rate limiter | slow down | request rate | limit rate "
                 "| usage rate | rate exceeded | rate increased"),
    (C.TOO_MANY, "too many"),
    (C.THROTTLE, "too frequent | too frequently | too fast | too quickly"),
    (C.MONEY | C.BUY, "top up | add credit | add credits | add funds | buy credits | purchase credits | add balance | more credits "
                "| valid payment | card was | card declined | payment method | credit card"),
    (C.MONEY | C.LACKING, "past due | payment required | payment failed | good standing | only afford | over budget | not paid"),
    (C.SPENT, "out of | run out | ran out | used up | used all | fully used | using up | none left | consumed all | use up "
              "| no remaining"),
    (C.LACKING, "not enough | too low | less than"),
    (C.BUSY, "high demand | high load | heavy load | peak load | high traffic | heavy traffic | high volume | at capacity | over capacity "
             "| no capacity | of capacity | capacity exceeded | capacity exhausted | insufficient capacity | capacity limit | queue full "
             "| queue is | pending requests | no slots | overloaded capacity | capacity available | capacity temporarily | enough capacity "
             "| capacity constraints | queue exceeded | server capacity | model capacity | capacity reached | queue capacity"),
    (C.CREDENTIAL, "api key | api keys | access token | bearer token | auth token | api token | id token | refresh token | security token "
                   "| session token | secret key | access key | token expired | token invalid | invalid token | token has | auth header "
                   "| authorization header | service account"),
    (C.AUTHENTICATE, "log in | sign in | logged in | signed in | not authenticated | login fail | login failed | re authenticate"),
    (C.ABSENT, "no longer | end of | such model | not exist | not found | no such | no endpoints | not deployed "),
    (C.LIMIT, "at most | up to | range of"),
    (C.OVER, "more than"),
    (C.INPUT, "in request | request has | request contains"),
    (C.FEATURE, "function calling | tool calling | tool use"),
    (C.INVALID, "has ended | have ended | is over"),
    (C.SUSPENDED, "bad standing"),
    (C.FORBIDDEN, "verify your | complete verification | identity verification"),
    (C.SUSPENDED, "not active | been disabled | be verified | is inactive | not verified | been suspended"),
    (C.DOWN | C.ASLEEP, "not ready | shutting down | starting up | spinning up | scaling up | cold start | no healthy | not running | not loaded "
                        "| not healthy | being loaded | shut down | still loading | load model | loading model | scaled to"),
    (C.DOWN, "not available | is down | no available | to process"),
    (C.TIMEOUT, "timed out | time out | took too | respond in | respond within | within time | upstream timing"),
    (C.BROKEN, "internal error | internal server | internal exception | server error | went wrong | of memory "
               "| unexpected error | unknown error | system error | unexpectedly stopped | process has | has crashed"),
    (C.CONTENT | C.POLICY, "content policy | usage policy | usage policies | usage guidelines | acceptable use | content management | content filter "
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
    (C.PLAN, "free tier | paid plan | free plan | free model | free models | paid tier | free usage | free quota | free allocation "
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
    (C.ABSENT, "find found exist exists resolve resolved locate located recognized recognised deployed"),
    (C.UNSUPPORTED, "supported"),
    (C.INCAPABLE, "support"),
    (C.DOWN, "ready available healthy running loaded responding reachable respond invoked process serve"),
    (C.FORBIDDEN, "allow allowed permitted authorized authorised entitled eligible permission permissions access privileges enabled "
                  "activated granted opened included"),
    (C.LACKING, "enough sufficient credits credit balance funds money quota paid payment remaining left afford allowance"),
    (C.INVALID, "valid set provided correct configured match passed supplied parse recognized"),
    (C.SUSPENDED, "active verified"),
    (C.TOO_BIG, "fit fits"),
    (C.BUSY, "capacity slots"),
)  # fmt: skip
"""What a word means behind a negation: "could not be found", "does not have any credits"."""
