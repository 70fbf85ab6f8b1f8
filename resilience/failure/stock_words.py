"""The words that providers use themselves: they tell nothing of a prompt, even if it has them, too.

They are the words of the lexicon, by which errors are classified, of the codes, and the two lists below. A message keeps them, so no
removal of an echo can take away what an error means.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Final

from resilience.failure import codes, lexicon
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
accept accepted acceptable accessible accessor action actions actual add added adding additional address administrator advice agent
ai aiexception aiohttp aiplatform aliyun allocate allocated amount anthropic any apicall apiconnection apierror api apis app app apps
array arrays articles ask asked assert assertion assistant associated attempt attempts attribute auth auto automatic automatically
available aws azure backoff base based basic batch bearer bedrock begin beginning believe beta between bit blank body boolean botocore
browser buffer bytes cache cached canceled cancelled candidate candidates card case category cause caused caution cdn center central
certain certificate change changed channel character characters charset chat chatcmpl chatgpt check checked checks choice choices
chunk chunks class claude cli client clients close closed cloud cloudflare code codes coding coerce cohere column com combination
comma command common communicating compatible complete completed completions compress config configuration configured conflict
connector consider console consume contact contain contained contains continue control converse convert cookie cookies cooldown
copilot core correct cost could count create created creates creating credentials csv current currently custom cut dashboard data
database date day debug decode decoder deep deepseek default defined delay delayed delete deleted delta dependency depth describe
described description detail details detect detected dev developer developers device dict dictionary dimension dimensions direct
direction directory disconnect discuss div docs document documentation docx doctype domain domains doubao double duplicate echo edit
element elements email embed embedding embeddings empty en enable enabled encode encoded encoding encountered end ended ends ensure
entity entries entry enum env environment eof equal err errno error errors estimated event events exact exactly example examples
execute execution exist existing exists exit expected expecting experience experienced experiencing explicit extra face facing
fallback fallbacks false fault feedback fetch fetching field fields file files final find fine finish finished firewall fix flash
float for force format formats found fragment frame free frequency full fully gateway gemini general generate generated generating
generative generativelanguage genai github given global google googleapis gpt gpu grok groq group groups grpc gt guide guides haiku
handle handler handling handshake hard head header headers here hidden higher hint history host hosted hosts hour href htm html http
httperror https httpsconnection httpx hub huggingface human iban id identifier identity ids ie image images improve include included
includes including incomplete increase increasing incorrectly index indexes indices info information inner innererror input inputs
insert inside instance instances instant instruct instruction instructions int integer integers interface internal interval invalid
invalidated invoke invoking io ip issue issuer item items iteration jpeg jpg js json jsondecode judge jwt keyword kimi kind label
language large largest last latency latest layer learn length level levels library like line lines link linked links list listed
lists lite litellm literal llama llm load loaded local locale localhost location log logged logging logit logprobs logs loop lower
machine main malformed manage manager manifest map mapping mark match matched matching maximum md media medium member memory merge
message messages meta metadata method metric middle migrate migration mime mini minimum mistake mistral ml mode models modify
moment monitor month moonshot moonshotai mozilla msg multi multimodal multiple name named names namespace nano native nested nginx
node none normal note nothing notice null number numbers numeric nvidia object objects occured occurred ok old oldie ollama online
open openai openapi opencode openrouter operation operations operator opus opt option optional options order organization original
other outside overview override owner packet page pages pair parallel parameter parameters params parent parse parsed parsing part
partial parts party pass passed path paths pattern payload pdf peer pem pending people percent perform performed period persist
persists person personal phone phrase pipeline place platform plain png point policy pool port position positive possible post
potential potentially precondition predict prefill prefix preview previous price pricing print pro problem process processed
processing processor profile program project prompt prompts properties property protect protocol prove provide provided provider
providers provides provisioned proxy public publisher publishers pull py python quality queries question quick quota qwen raise raised
range ranges rating ratings raw read reader real reason reasoning reasons receive received receiving recent recommend record records
redirect ref refer reference refresh refreshed regex region regional register regular relay release relevant remaining remedy remote
remove removed repeat replace replaced reply report reports repository req requested requests requirement requirements requires res
reserve reserved resolution resource resources resp respond response responses rest result results resume retries retryable return
returned returning returns review role roles root round route router routes routing row rpc rule rules run running runtime safe
safety sales sample sampling schema schemas scope score sdk sdkerror search second seconds section secure see seek select selected
send sending sends sent separate sequences serve served server serves session set sets setting settings severity shape share shared
shift short show shown side sign similar simple simply single site size small snapshot socket soft solution sonnet source sources space
span special specific specification specified specify speed split sql ssl ssleoferror sslerror ssn stack stage standard start started
state statement status step steps stop stopped storage store stored stream streamed streams string strings structure structured studio
style sub submit submitted submitting success successful successfully such suffix suggest supplied supports surface switch switched
switching syntax system systems tab table tag tags target task tasks tcp team template tensor tenant term terms test tested text texts
thinking third thread threads three threshold tier timeout timestamp timezone title together token tokenizer tokens tool tools top
topic torch total trace track trailing train training transfer transform transient transit transition translate transport tried trigger
triggered trip troubleshooting true trust turbo turn turns txt type types typing ui un unable und undefined undici unexpected unique
unit units unlock unparsed unspecified unsupported update updated upload uploaded uri url urls usage user utc utf util valid validate
validated validation validator value values variable variables various verify versatile version versions vertex video view virtual
vision visit vllm voice vscode wait warning warnings web website week white window windows wire word words work working works worker
would wrap wrapped wrapper write writing written www xai xml xx xxx xxxx xxxxx xxxxxx yaml year zero zip zone
abuse abusing activate actively adjusting admin alert amounts appeal approved avoid aiservices byok carefully comply configure connectivity
considered consume consumed consumer deprecations embedder enabling fingerprint forcibly git harm jailbreak life meet memories microsoft
newly possibly pre proj profit recommendation redacted reliability revise secondary seeing shifting sorry
algo alibaba amazon answer answered answers args baml behavior behaviour broken cert chunked coral dead decoding disconnected eai
enforced iam inspection instructor pack parser pipe retrieval telling
ak ark asia aka cc cf cli cn co dm eu gb ie kb kv lt mb ms mx ne np nx ns og op os ow pc pe pid pm pr px qa qs rl rs rt sa sc sdk sse
st sv tb td th tls tp tpd tpm rpd rpm ttl tx ux vm vs ws
"""
"""Words of requests, of protocols and of the providers' documentation, and names of providers and models."""


@cache
def _listed() -> frozenset[str]:
    """Return all words that are listed, folded."""
    sources = (_GRAMMAR, _TECHNICAL, " ".join(lexicon.WORDS))
    return frozenset(word for source in sources for word in fold(source).split())


@lru_cache(maxsize=4096)
def is_stock(word: str) -> bool:
    """Return whether a folded *word* is one of the providers' own."""
    if word in _listed() or _is_stem(word) or any(word in table for table in codes.ALL):
        return True
    return word[0] in lexicon.UNSPACED_STARTS and _is_unspaced(word)


def _is_stem(word: str) -> bool:
    lengths = range(lexicon.SHORTEST_STEM, min(len(word), lexicon.LONGEST_STEM) + 1)
    return any(word[:length] in lexicon.STEMS for length in lengths)


def _is_unspaced(text: str) -> bool:
    """Return whether a *text* without spaces is made of listed words, but for a letter or two between them."""
    at = unknown = 0
    while at < len(text):
        longest = range(min(lexicon.LONGEST_UNSPACED, len(text) - at), 0, -1)
        length = next((size for size in longest if text[at : at + size] in lexicon.UNSPACED), 0)
        unknown += not length
        at += length or 1
    return unknown <= 2  # noqa: PLR2004 - particles
