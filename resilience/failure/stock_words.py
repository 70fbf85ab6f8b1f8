"""The words that providers use themselves: they tell nothing of a prompt, even if it has them, too.

They are the words of the lexicon, by which errors are classified, of the codes, and the two lists below. A message keeps them, so no
removal of an echo can take away what an error means.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from resilience.failure import codes
from resilience.redaction.folding import fold

_GRAMMAR: Final = """
a about above according across after again against all almost alone along already also although always am among an and another any
anyone anything are around as at away back be became because become been before behind being below best better between both but by
came can cannot come could did different do does doing done down due during each either else enough etc even ever every everyone
everything except far few first following for from further get gets getting give given gives go goes going good got had has have
having he help hence her here hers herself hi high him himself his how however i if in indeed instead into is it its itself just keep
kept know known last later least left less let like likely long longer made make makes making many may maybe me mean means might more
most much must my myself near need needs neither never new next no none nor not nothing now of off often old on once one ones only
onto or other others our ours out over own part per perhaps please possible put quite rather really right said same say see seen self
several shall she should since so some someone something soon still such sure take taken takes than that the their theirs them
themselves then there therefore these they thing things this those though through thus time times to today together too took toward
try trying two three under until unless up upon us use used useful user users uses using usually very via want was way we well went
were what whatever when where whether which while who whole whom whose why will with within without would yes yet you your yours
yourself isn aren wasn weren don doesn didn hasn haven hadn won wouldn couldn shouldn can ll ve re
aber als auch auf aus bei bin bis das dass dem den der des die dies diese dieser dieses doch du durch ein eine einem einen einer eines
er es für hat hatte ich ihr ihre im in ist ja kann können mit nach nicht noch nur ob oder ohne sein seine sich sie sind so über um und
uns unter vom von vor war warum was wenn wer werden wie wieder wird wir wurde zu zum zur bitte versuchen sie
au aux avec avez ce ces cette comme dans de des du elle en est et eux il ils je la le les leur lui mais nous ont ou où par pas plus pour
qu que qui sa sans se ses son sont sur ta te toi un une vos votre vous être veuillez réessayer
al como con cual cuando del desde donde el ella ellos en entre era es esta este esto ha han hay las lo los mi muy más para pero por que
quien se ser si sin sobre son su sus también tiene un una usted ya fue favor inténtelo nuevo
da do dos das ele ela em mais não na nas no nos num numa os ou para pela pelo por qual quando que se sem seu sua são tem uma você
che chi ci come con cui dal della delle di gli il lo ma mi ne nel nella non per più può sono su tra un una uno
"""
"""Words without a meaning of their own, in the languages in which providers answer."""

_TECHNICAL: Final = """
abuse accept accessible accessor action activate actively actual added adding additional address adjusting admin
administrator advice agent aiexception aiohttp aiplatform aiservices ak aka alert algo alibaba aliyun allocate amazon
amount answer anthropic apicall apiconnection apierror apis app appeal approved apps args ark array articles asia ask
asked assert assertion assistant associated attempt auto automatic automatically avoid aws azure backoff baml base
basic batch bedrock begin behavior behaviour believe beta bit blank body boolean botocore broken browser buffer byok
cache canceled cancelled candidate carefully case category cause caution cc cdn center central cert certain
certificate cf change channel charset chat chatcmpl chatgpt checked checks choice chunk class claude cli client close
cloud cloudflare cn co code coerce cohere column com combination comma command common communicating completed comply
compress config configuration configure conflict connectivity connector consider console consume consumer contact
contain continue control converse convert cookie cooldown copilot coral core cost create csv current custom cut
dashboard data database date dead debug decode decoder deep deepseek default defined delay delayed delete delta
dependency deprecations depth describe description detail detect dev developer device dict dictionary dimension direct
direction directory disconnect discuss div dm docs doctype documentation docx domain doubao double duplicate eai echo
edit element email embed embedder enable encode encountered ends enforced ensure entry enum env environment eof equal
err errno errors estimated eu event exact exactly example execute existing exit expected expecting experience explicit
extra face fallback false fault feedback fetch final fine fingerprint finish firewall fix flash float force forcibly
fragment frame frequency gb gemini genai general generate generative generativelanguage git github global google
googleapis gpt gpu grok groq group grpc gt guide haiku handler handling handshake hard harm head hidden higher hint
host href htm html http httperror httpsconnection httpx hub huggingface human iam iban identifier ids ie improve
include incomplete incorrectly increase index indices info information inner innererror insert inside inspection
instant instruct instruction instructor int integer interface interval invalidated invoke io ip issuer item iteration
jailbreak jpeg jpg js jsondecode judge kb keyword kimi kind kv label language largest latency latest layer learn level
library life line link list lite litellm literal llama llm local locale localhost logging logit logprobs logs loop
lower lt machine main manage manager manifest map mapping mark matched matching md media medium meet member memories
merge meta metadata metric microsoft middle migrate mime mini minimum mistake mistral ml modify moment monitor
moonshot moonshotai mozilla ms msg multi multimodal multiple mx name namespace nano native nested newly nginx normal
note notice np ns null number numeric nvidia nx object occured occurred og ok oldie ollama online op open openai
openapi opencode openrouter operation operator opt option optional opus order original outside override overview ow
owner pack packet page pair parent parsed parser parsing partial parts party pass path pattern pc pe peer pem people
percent perform persist person personal phone phrase pid pipe pipeline place plain platform pm png point pool port
position positive possibly post potential potentially pr pre precondition predict prefill prefix preview previous
price print pro processed processing processor profile profit program proj protect protocol prove provide provisioned
proxy public publisher pull px py python qa qs quality question quick qwen raise range ratings raw read reader real
reason receive recent recommend recommendation record redacted redirect ref refer reference refreshed regex regional
register regular relay release relevant reliability remedy remote remove repeat replace reply report repository req
requirement res reserve resolution resource resp responses rest result resume retrieval retryable return review revise
rl role root round route router row rpc rs rt rule runtime safe sales sample sc score sdk sdkerror search secondary
section secure seeing seek select send sent separate served serves sets setting severity shape share shift short show
shown side similar simple simply single site small snapshot soft solution sonnet sorry source space span special
specific specification specify speed split sql sse ssleoferror sslerror ssn st stack stage standard started state
statement status step stop storage store stream string structure studio style sub submit success successful
successfully suffix suggest supports surface sv switch syntax tab table tags target task tb tcp td telling template
tensor term test text th thinking third thread timestamp timezone title tokenizer topic torch total tp trace track
trailing train transfer transform transient transit transition translate transport tried trip troubleshooting true
trust ttl turbo turn tx txt type ui undefined undici unique unit unlock unparsed unspecified update upload uri url
urls utc utf util ux validate validator value variable various versatile version vertex view virtual visit vllm vm
voice vs vscode warning web website white wire word work wrap wrapper write written ws www xai xml xx xxx xxxx xxxxx
xxxxxx yaml zip zone
"""
"""Words of requests, of protocols and of the providers' documentation, and names of providers and models.

To add one, give its shortest form. A word belongs here if real messages of providers have it and it tells nothing about a person: a
message loses every other word that the prompt has, too. Words by which errors are classified are in the lexicon already.
"""


@cache
def _listed() -> frozenset[str]:
    """Return all words that are listed, folded. It takes some milliseconds, so a process without failures never does it."""
    from resilience.failure import lexicon  # noqa: PLC0415 - as in `classify.py`

    # The regular endings of English follow from the shortest form, as in the lexicon.
    technical = (form for word in _TECHNICAL.split() for form in lexicon.forms_of(word))
    return frozenset(fold(" ".join((_GRAMMAR, *technical, *lexicon.WORDS))).split())


@lru_cache(maxsize=4096)
def is_stock(word: str) -> bool:
    """Return whether a folded *word* is one of the providers' own."""
    from resilience.failure import lexicon  # noqa: PLC0415 - as in `classify.py`

    if word in _listed() or _is_stem(word) or any(word in table for table in codes.ALL):
        return True
    return word[0] in lexicon.UNSPACED_STARTS and _is_unspaced(word)


def _is_stem(word: str) -> bool:
    from resilience.failure import lexicon  # noqa: PLC0415 - as in `classify.py`

    lengths = range(lexicon.SHORTEST_STEM, min(len(word), lexicon.LONGEST_STEM) + 1)
    return any(word[:length] in lexicon.STEMS for length in lengths)


def _is_unspaced(text: str) -> bool:
    """Return whether a *text* without spaces is made of listed words, but for a letter or two between them."""
    from resilience.failure import lexicon  # noqa: PLC0415 - as in `classify.py`

    at = unknown = 0
    while at < len(text):
        longest = range(min(lexicon.LONGEST_UNSPACED, len(text) - at), 0, -1)
        length = next((size for size in longest if text[at : at + size] in lexicon.UNSPACED), 0)
        unknown += not length
        at += length or 1
    return unknown <= 2  # noqa: PLR2004 - particles
