"""The words of the languages in which providers answer, by what they mean.

A word stands for one *concept* or for several: "depleted" is SPENT, 余额不足 is MONEY and LACKING. `reading.py` turns a
text into concepts, `meaning.py` has the rules over them. No entry is a provider's sentence: an entry is a word, or a few
words that mean something else together than alone ("rate limit", "top up", "out of").

English words are listed once, in their shortest form; `_forms` adds the endings. A star marks the stem of a family of
words in an inflected language: `guthaben*` also reads "Guthabens". Chinese and Japanese have no spaces; their words are
found anywhere in a run of characters, the longest first. To teach a new word, add it to the line of its language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntFlag, auto
from typing import Final, NamedTuple


class Concept(IntFlag):
    """What a word can stand for. A sentence is the set of its concepts, so each is one bit."""

    MONEY = auto()
    PLAN = auto()
    BUY = auto()
    LONG_PERIOD = auto()
    SHORT_PERIOD = auto()
    QUOTA = auto()
    LIMIT = auto()
    USAGE = auto()
    THROTTLE = auto()
    REQUEST = auto()
    TOKEN = auto()
    INPUT = auto()
    CONTEXT = auto()
    OUTPUT = auto()
    SIZE = auto()
    TOO_BIG = auto()
    TOO_MANY = auto()
    OVER = auto()
    REACHED = auto()
    SPENT = auto()
    LACKING = auto()
    REDUCE = auto()
    MODEL = auto()
    ABSENT = auto()
    UNSUPPORTED = auto()
    CREDENTIAL = auto()
    INVALID = auto()
    ACCOUNT = auto()
    ACCESS = auto()
    FORBIDDEN = auto()
    SUSPENDED = auto()
    PLACE = auto()
    CONTENT = auto()
    POLICY = auto()
    HARM = auto()
    BLOCKED = auto()
    BUSY = auto()
    DOWN = auto()
    SERVICE = auto()
    TEMPORARY = auto()
    WAIT = auto()
    TIMEOUT = auto()
    BROKEN = auto()
    CONNECTION = auto()
    FAILED = auto()
    PARAMETER = auto()
    REQUIRED = auto()
    NOT = auto()
    TOO = auto()
    LITTLE = auto()
    RESET = auto()
    CONCURRENT = auto()
    AUTHENTICATE = auto()
    BILLING = auto()
    HOUR = auto()
    UNKNOWN = auto()
    ASLEEP = auto()
    MEDIA = auto()
    DELAY = auto()
    """A short wait was stated somewhere in the response; no word of the text."""


C = Concept

_ENGLISH: Final[tuple[tuple[Concept, str], ...]] = (
    (C.MONEY, "credit balance billed bills invoice payment pay fund wallet prepaid prepayment deposit afford spend spending "
              "spent budget debt money usd dollar euro payg"),
    (C.MONEY | C.LACKING, "arrears arrearage overdue unpaid delinquent"),
    (C.BILLING, "billing"),
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
    (C.ACCESS, "access permission permit authorize authorise privilege entitled scope"),
    (C.FORBIDDEN, "forbidden denied deny prohibit disallow unauthorised restrict"),
    (C.SUSPENDED, "suspend ban disable deactivate terminated blacklist locked"),
    (C.PLACE, "country region territory location geography geographic"),
    (C.CONTENT, "content moderation moderate moderated"),
    (C.POLICY, "policy guideline safety guardrail filter filtering terms"),
    (C.HARM, "harmful unsafe inappropriate sensitive violate violation violative nsfw sexual violence hate offensive toxic "
             "risk disallowed cybersecurity biosecurity moderation pornographic"),
    (C.BLOCKED, "block reject refuse flag decline trigger intervene"),
    (C.BUSY, "overload busy congest congestion saturate overwhelm overcapacity backlog"),
    (C.DOWN, "unavailable offline outage unhealthy unreachable"),
    (C.DOWN | C.ASLEEP, "degrade drain maintenance warming warmup starting booting loading initializing initialising cold warm "
                        "draining paused sleeping asleep hibernate restart provisioning"),
    (C.SERVICE, "service server system upstream backend provider gateway cluster worker instance replica node function "
                "servers inference"),
    (C.TEMPORARY, "temporarily temporary currently momentarily intermittent shortly"),
    (C.WAIT, "wait retry later slow"),
    (C.TIMEOUT, "timeout timedout deadline"),
    (C.BROKEN, "crash panic traceback exception bug segfault oom"),
    (C.CONNECTION, "connection network socket dns tls ssl connect hostname"),
    (C.FAILED, "fail failure abort lost issue problem refused dropped"),
    (C.PARAMETER, "parameter param field property argument schema json format header attribute tool temperature"),
    (C.REQUIRED, "require required need must"),
    (C.RESET, "reset renew renewal"),
    (C.NOT, "not no never cannot unable without none neither nor non"),
    (C.TOO, "too"),
)  # fmt: skip
"""English, without its endings."""

_TOGETHER: Final[tuple[tuple[Concept, str], ...]] = (
    (C.THROTTLE, "token bucket | rate limit | rate limits | rate limited | rate limiting | rate limiter | slow down | request rate | limit rate "
                 "| usage rate | rate exceeded | rate increased"),
    (C.TOO_MANY, "too many"),
    (C.THROTTLE, "too frequent | too frequently | too fast | too quickly"),
    (C.MONEY | C.BUY, "top up | add credit | add credits | add funds | buy credits | purchase credits | add balance | more credits "
                "| valid payment | payment method | credit card"),
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
    (C.LIMIT, "at most | up to"),
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
    (C.PLAN, "free tier | paid plan | free plan | free model | free models | paid tier | free usage | free quota | free allocation"),
    (C.FORBIDDEN, "not allowed | not permitted | not authorized | not authorised | not entitled | no permission | no access "
                  "| not eligible | not enabled | only available | only be | allowed only "
                  "| not granted | not included"),
    (C.FORBIDDEN | C.SUSPENDED, "been blocked"),
    (C.UNSUPPORTED, "not supported | not support | not compatible"),
    (C.INVALID, "not valid | not set | not provided | not recognized | not correct | not configured | is required | are required "
                "| not match | not passed | not supplied"),
)  # fmt: skip
"""Two English words that mean more together than alone."""

_NEGATED: Final[tuple[tuple[Concept, str], ...]] = (
    (C.ABSENT, "find found exist exists resolve resolved locate located recognized recognised deployed"),
    (C.UNSUPPORTED, "support supports supported"),
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

_OTHERS: Final[tuple[tuple[Concept, str], ...]] = (
    # German
    (C.MONEY, "guthaben* zahlun* bezahl* rechnu* kosten*"),
    (C.QUOTA, "kontin*"),
    (C.LIMIT, "grenze* obergr* begren* höchst*"),
    (C.SPENT | C.LACKING, "aufgeb* erschö*"),
    (C.LACKING, "unzure*"),
    (C.OVER, "übersc* überst*"),
    (C.REACHED, "erreic*"),
    (C.LONG_PERIOD, "tag täglich* monat monatl* wöchen* woche"),
    (C.SHORT_PERIOD, "minute* sekund*"),
    (C.REQUEST, "anfrag* aufruf*"),
    (C.MODEL, "modell modells"),
    (C.INPUT, "eingab*"),
    (C.CONTEXT, "kontex*"),
    (C.SIZE, "länge lang groß"),
    (C.CREDENTIAL, "schlüs*"),
    (C.AUTHENTICATE, "authen* anmeld*"),
    (C.INVALID, "ungült* falsch abgela* fehlt"),
    (C.FORBIDDEN, "verwei* verboten unbere*"),
    (C.ACCESS, "zugrif* berech*"),
    (C.BUSY, "überla* ausgel*"),
    (C.DOWN, "wartun*"),
    (C.TIMEOUT, "zeitüb* zeitla*"),
    (C.WAIT, "später erneut warten"),
    (C.NOT, "nicht kein keine keinen"),
    (C.TOO, "zu"),
    (C.POLICY, "richtl*"),
    (C.BLOCKED, "blocki* abgele*"),
    (C.THROTTLE, "ratenb* gedros* ratenl*"),
    (C.TOO_MANY, "viele häufig"),
    # French
    (C.MONEY, "solde crédit crédits paieme* factur*"),
    (C.LIMIT, "limite limites plafon*"),
    (C.SPENT | C.LACKING, "épuisé* épuise*"),
    (C.LACKING, "insuff*"),
    (C.OVER, "dépass* dépassé"),
    (C.REACHED, "attein*"),
    (C.LONG_PERIOD, "jour quotid* mensue* mois semaine hebdom*"),
    (C.REQUEST, "requêt* demand* appels"),
    (C.MODEL, "modèle modèles"),
    (C.ABSENT, "introu* inexis* inconn*"),
    (C.CREDENTIAL, "clé clef identifiant"),
    (C.INVALID, "invali* expiré* manqua* incorr* valide"),
    (C.FORBIDDEN, "interd* refusé*"),
    (C.ACCESS, "accès autori*"),
    (C.BUSY, "surcha* saturé*"),
    (C.DOWN, "indisp*"),
    (C.TIMEOUT, "délai"),
    (C.WAIT, "réessa* patien* tard"),
    (C.NOT, "pas aucun aucune"),
    (C.TOO, "trop"),
    (C.SIZE, "longue* volumi*"),
    (C.CONTENT, "contenu"),
    (C.POLICY, "politi*"),
    (C.TOO_MANY, "nombreuses fréquentes"),
    (C.INPUT, "entrée invite"),
    (C.CONTEXT, "contexte"),
    # Spanish, Portuguese, Italian
    (C.LACKING, "insufic*"),
    (C.MONEY, "saldo crédito créditos credito crediti créditos pago pagos pagamento facturación cobrança fondos"),
    (C.QUOTA, "cuota cota"),
    (C.LIMIT, "límite límites limite máximo massimo"),
    (C.SPENT | C.LACKING, "agotad* esgota* esauri*"),
    (C.OVER, "excedi* supera* exced* superó ultrap*"),
    (C.REACHED, "alcanz* atingi* raggiu*"),
    (C.LONG_PERIOD, "diario diaria mensual día mes semana semanal mensal dia giorno mese"),
    (C.REQUEST, "solici* petici* requis* richie*"),
    (C.TOO_MANY, "demasiadas muitas troppe demasiados muitos"),
    (C.MODEL, "modelo modello"),
    (C.ABSENT, "encont* encontrado existe"),
    (C.CREDENTIAL, "clave chave chiave"),
    (C.INVALID, "inváli* caduca* caducó expiró faltan incorrecta"),
    (C.FORBIDDEN, "denega* negado prohib* proibi*"),
    (C.ACCESS, "acceso acesso permiso permis*"),
    (C.BUSY, "sobrec* saturado sovrac*"),
    (C.DOWN, "mantenimiento disponible disponível indispon*"),
    (C.WAIT, "intént* espere aguarde riprova tente"),
    (C.TOO, "demasiado demasiada muito troppo"),
    (C.SIZE, "largo larga longo longa lungo longit*"),
    (C.CONTENT, "conteni* conteú*"),
    (C.POLICY, "políti*"),
    # Russian
    (C.MONEY, "баланс* средст* оплат* счет счёт кредит*"),
    (C.LACKING, "недост* законч* исчерп*"),
    (C.LIMIT, "лимит* квота квоты"),
    (C.OVER, "превыш*"),
    (C.REQUEST, "запрос*"),
    (C.MODEL, "модель модели"),
    (C.ABSENT, "найден* сущест*"),
    (C.BUSY, "перегр*"),
    (C.DOWN, "недосту*"),
    (C.NOT, "не нет"),
    (C.TOO_MANY, "много часто"),
    (C.INVALID, "неверн* недейст*"),
    (C.CREDENTIAL, "ключ ключа токен"),
    (C.LONG_PERIOD, "день месяц суточ* месячн*"),
    (C.WAIT, "повтор* попроб* позже"),
)  # fmt: skip

_UNSPACED: Final[tuple[tuple[Concept, str], ...]] = (
    # Chinese, simplified and traditional
    (C.MONEY, "余额 餘額 账单 帳單 费用 費用 付费 付費 支付 预算 預算 资源包 資源包 资费 点数 积分 钱包 套餐包 计费"),
    (C.MONEY | C.LACKING, "欠费 欠費 逾期 未付"),
    (C.BUY | C.MONEY, "充值 续费 續費 购买 購買 儲值"),
    (C.PLAN, "套餐 订阅 訂閱 升级 升級 试用 試用 免费 免費"),
    (C.QUOTA, "额度 額度 配额 配額 限额 限額 用量"),
    (C.LIMIT, "上限 限制 最大 最多"),
    (C.LACKING, "不足 不够 不夠 为负 為負"),
    (C.SPENT, "用尽 用盡 用完 耗尽 耗盡 已用尽 已用完 用光"),
    (C.OVER, "超出 超过 超過 超限 超额 大于 溢出"),
    (C.REACHED, "达到 達到 已达 已達 达上限"),
    (C.LONG_PERIOD, "每日 每天 当日 當日 今日 每月 本月 当月 月度 每周 本周"),
    (C.LONG_PERIOD | C.QUOTA, "日限额 月限额 日额度 月额度 周额度"),
    (C.SHORT_PERIOD, "每分钟 每分鐘 每秒 分钟"),
    (C.CONCURRENT, "并发 並發"),
    (C.THROTTLE, "限流 限速 频率 頻率 速率 流控 过于频繁 太频繁 過於頻繁 频繁 访问过快 过快"),
    (C.TOO_MANY, "过多 太多 過多"),
    (C.REQUEST, "请求 請求 调用 呼叫 访问 訪問"),
    (C.MODEL, "模型 部署 接入点"),
    (C.INPUT, "输入 輸入 提示词 消息 文本 内容长度 对话"),
    (C.CONTEXT, "上下文"),
    (C.SIZE, "长度 長度 字数 字符"),
    (C.TOO_BIG, "过长 過長 超长 太长 过大"),
    (C.REDUCE, "缩短 减少 精简"),
    (C.ABSENT, "不存在 未找到 找不到 下架 未上架 已下线 未开通 未部署 停用模型 没有找到"),
    (C.UNSUPPORTED, "不支持 不支援 暂不支持"),
    (C.CREDENTIAL, "密钥 密鑰 令牌 秘钥"),
    (C.AUTHENTICATE, "鉴权 鑑權 认证 認證 身份 登录 登入 未授权 授权失败"),
    (C.INVALID, "无效 無效 错误 錯誤 缺失 缺少 过期 過期 失效 有误 不合法 不正确"),
    (C.ACCOUNT, "账户 帳戶 账号 帳號 用户 用戶 组织"),
    (C.FORBIDDEN, "无权 無權 禁止 拒绝访问 没有权限 权限不足 無權限 无权限 不允许 实名认证 实名"),
    (C.ACCESS, "权限 權限"),
    (C.SUSPENDED, "封禁 禁用 停用 冻结 封号"),
    (C.PLACE, "地区 地區 国家 區域 区域"),
    (C.CONTENT | C.HARM, "敏感 违规 違規 不合规 违禁 不当 不安全 涉政 色情 风险 不良 违反"),
    (C.CONTENT | C.POLICY, "审核 審核 内容安全 安全策略"),
    (C.CONTENT, "内容 內容"),
    (C.BLOCKED, "拦截 攔截 屏蔽 拒绝 拒絕"),
    (C.BUSY, "繁忙 过载 過載 饱和 飽和 拥挤 擁擠 拥堵 负载 負載 访问量过大 排队 过于火爆 忙碌 人数过多"),
    (C.DOWN, "不可用 无可用"),
    (C.DOWN | C.ASLEEP, "维护 維護 加载 启动中 冷启动 未就绪 升级中"),
    (C.HOUR, "小时 小時"),
    (C.SERVICE, "服务 服務 系统 系統 上游 渠道 服务器"),
    (C.BROKEN, "内部错误 系统异常 服务异常 服务器错误 未知错误 异常 系统错误"),
    (C.TIMEOUT, "超时 逾時 超時"),
    (C.WAIT, "稍后 稍候 稍後 重试 重試 再试 再試"),
    (C.CONNECTION, "连接 網路 网络 連線"),
    (C.FAILED, "失败 失敗 断开"),
    (C.PARAMETER, "参数 參數 字段 格式"),
    (C.NOT, "未 无 無 没有 沒有 非"),
    # Japanese
    (C.MONEY, "残高 クレジット 支払 課金 請求書 料金 予算"),
    (C.QUOTA, "割り当て クォータ 利用枠"),
    (C.LIMIT, "上限 制限"),
    (C.USAGE, "利用"),
    (C.OVER, "超過 超え"),
    (C.REACHED, "達しました 達し 到達 引っかか"),
    (C.SPENT, "使い切 枯渇"),
    (C.REQUEST, "リクエスト 呼び出し"),
    (C.THROTTLE, "レート制限 スロットリング レートリミット"),
    (C.TOO_MANY, "多すぎ"),
    (C.TOO_BIG, "長すぎ 大きすぎ"),
    (C.INPUT, "入力 プロンプト"),
    (C.TOKEN, "トークン"),
    (C.CONTEXT, "コンテキスト"),
    (C.MODEL, "モデル"),
    (C.ABSENT, "存在しません 見つかりません 存在しない 廃止"),
    (C.CREDENTIAL, "キー"),
    (C.AUTHENTICATE, "認証 ログイン"),
    (C.INVALID, "無効 期限切れ 不正"),
    (C.FORBIDDEN, "許可されていません 拒否 権限がありません"),
    (C.ACCESS, "アクセス 権限"),
    (C.CONTENT, "コンテンツ"),
    (C.POLICY, "ポリシー 安全性"),
    (C.HARM, "不適切 違反"),
    (C.BUSY, "混雑 過負荷 混み合"),
    (C.DOWN, "利用できません"),
    (C.DOWN | C.ASLEEP, "メンテナンス 起動中 読み込み中 停止中"),
    (C.SERVICE, "サーバー サービス"),
    (C.TIMEOUT, "タイムアウト"),
    (C.WAIT, "しばらく 後で 再試行 お待ち"),
    (C.LONG_PERIOD, "一日 月間 今月"),
    # Korean
    (C.MONEY, "잔액 크레딧 결제 요금"),
    (C.LACKING, "부족"),
    (C.QUOTA, "할당량 사용량"),
    (C.LIMIT, "한도 제한"),
    (C.OVER, "초과"),
    (C.SPENT, "소진"),
    (C.REQUEST, "요청"),
    (C.TOO_MANY, "너무 많"),
    (C.MODEL, "모델"),
    (C.ABSENT, "찾을 없습니다"),
    (C.BUSY, "과부하 혼잡"),
    (C.CREDENTIAL, "키"),
    (C.INVALID, "유효하지 잘못된 만료"),
    (C.WAIT, "잠시 다시"),
)  # fmt: skip

_VOWELS = frozenset("aeiou")


def _forms(word: str) -> Iterator[str]:
    """Yield *word* with the regular endings of English verbs and nouns. A form that is no word does no harm."""
    yield word
    yield f"{word}s"
    if word.endswith("e"):
        yield from (f"{word}d", f"{word[:-1]}ing", f"{word[:-1]}ion")
    elif word.endswith("y"):
        yield from (f"{word[:-1]}ies", f"{word[:-1]}ied", f"{word}ing")
    else:
        yield from (f"{word}ed", f"{word}ing", f"{word}es")
        if len(word) > 2 and word[-1] not in _VOWELS and word[-2] in _VOWELS:  # noqa: PLR2004 - "cap", "capped"
            yield from (f"{word}{word[-1]}ed", f"{word}{word[-1]}ing")


def _collect(words: Iterable[tuple[str, Concept]]) -> dict[str, int]:
    collected: dict[str, int] = {}
    for word, concept in words:
        collected[word] = collected.get(word, 0) | int(concept)
    return collected


_all = [(word, concept) for concept, listed in _OTHERS for word in listed.split()]
_words = _collect(
    [(form, concept) for concept, listed in _ENGLISH for word in listed.split() for form in _forms(word)]
    + [(word, concept) for word, concept in _all if not word.endswith("*")]
)
_pairs = [(*pair.split(), concept) for concept, listed in _TOGETHER for pair in listed.split("|")]
_negated = _collect((word, concept) for concept, listed in _NEGATED for word in listed.split())


class Entry(NamedTuple):
    """What the lexicon has for one word, each as bits of concepts.

    Attributes:
        bits: the concepts of the word itself.
        negated: what it means behind a negation.
        pairs: the words that mean something more behind this one; None if there is none.
    """

    bits: int
    negated: int
    pairs: Mapping[str, int] | None


def _entries() -> dict[str, Entry]:
    pairs: dict[str, dict[str, int]] = {}
    for first, second, concept in _pairs:
        behind = pairs.setdefault(first, {})
        behind[second] = behind.get(second, 0) | int(concept)
    listed = {*_words, *_negated, *pairs, *(second for behind in pairs.values() for second in behind)}
    return {word: Entry(_words.get(word, 0), _negated.get(word, 0), pairs.get(word)) for word in listed}


WORDS: Final = _entries()
"""A word in lower case to what it means."""
STEMS: Final = _collect((word[:-1], concept) for word, concept in _all if word.endswith("*"))
"""The beginning of a word to the bits of its concepts; looked up where `WORDS` has nothing."""
SHORTEST_STEM: Final = min(map(len, STEMS))
LONGEST_STEM: Final = max(map(len, STEMS))
STEM_STARTS: Final = frozenset(stem[:SHORTEST_STEM] for stem in STEMS)
"""The first characters of all stems: most words without an entry end here."""
UNSPACED: Final = _collect((word, concept) for concept, listed in _UNSPACED for word in listed.split())
"""A word of a language without spaces to the bits of its concepts."""
LONGEST_UNSPACED: Final = max(map(len, UNSPACED))
