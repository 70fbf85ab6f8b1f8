-- One turn with one circuit, atomically: obey, count, cool down, perhaps lend, and say how things stand.
--
-- This is circuit.py again, in its order and with its names; that file is the law, and the tests hold the two together, reply and
-- whole hash, after every step. What a line is for stands there. Change both, and document.py, together.
--
-- KEYS[1]  hash: the circuit, the fields of document.py; a field at its default is absent.
-- KEYS[2]  stream: its transitions, oldest first; in the same slot by the {client} in both names.
-- ARGV[1]  the thresholds, JSON: window, min_calls, failure_rate, consecutive, slow_rate (-1: nothing is judged slow), open_for,
--          open_growth, open_max, open_jitter, probes, successes, lease, longest, deposit (-1: no retry budget), floor; window,
--          lease and longest in ms, deposit in RETRY-ths, the rest as in BreakerPolicy.
-- ARGV[2]  the request, JSON: mode ("look": write nothing; "order": no thresholds were given; "step"), draw; if there are any:
--          token, tries, retries, order [operation, actor, reason, wait ms, state, epoch], batches [[epoch, token, reason, runs]...] with runs like
--          "s12f3" (s success, f failure, l slow success, g slow failure, i ignored), cooldowns [[epoch, seconds, cap, 1 if
--          growing, reason]...].
-- ARGV[3]  how many transitions the stream keeps.
-- Returns  {state, epoch, now, wait, blocked, permit (1, 0), successes, failures, slow, streak, reason, blocked by, actor, late,
--          created (1 if the hash did not exist), owed, transition...}, each transition a list in the order of MOVED below.
--
-- The time is the server's. Needs Redis 6.2 or Valkey; everything is written after everything is read, the first write can fail
-- (out of memory, read-only) but then none was made.

local FIELDS = {'st', 'ep', 'ou', 'bu', 'bw', 'bn', 'oc', 'ca', 'hs', 'L', 'w', 'why', 'who', 'rt', 'ra', 'at'}
local TEXTS = {bw = true, why = true, who = true}
local STATES = {closed = true, open = true, half_open = true, forced_open = true, disabled = true}
local OVERRIDES = {forced_open = true, disabled = true}
local FAILURES = {f = true, g = true}
local SLOW = {l = true, g = true}
local MOVED = {'epoch', 'at_ms', 'from_state', 'to_state', 'rule', 'reason', 'actor', 'calls', 'failures', 'wait_ms'}
local BUCKETS = 10
local REMEMBERED = 8
local STEEPEST = 64
local RETRY = 60000 -- units of the retry budget
local KEEP = 86400000 -- an idle circuit is forgotten so long (ms) after it has nothing left to say: a day,
local KEEP_LOG = 604800000 -- and its transitions after a week

local policy = cjson.decode(ARGV[1])
local request = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- numbers: all are whole but rates and seconds, and rounding is Python's, half to even -------------------------------------------

local function round(x)
  local below = math.floor(x)
  local rest = x - below
  if rest > 0.5 or (rest == 0.5 and below % 2 == 1) then
    return below + 1
  end
  return below
end

local function digits(number) -- tostring gives up after 14 digits
  return string.format('%.0f', number)
end

local function number(text)
  return text and string.find(text, '^%-?%d+$') and tonumber(text) or 0
end

-- the document -------------------------------------------------------------------------------------------------------------------

local function read_leases(text)
  local leases = {}
  for entry in string.gmatch(text or '', '[^;]+') do
    local token, expiry = string.match(entry, '^(.*)=(%-?%d+)$')
    if not token then
      return {}
    end
    leases[#leases + 1] = {token = token, expiry = tonumber(expiry)}
  end
  return leases
end

local function read_buckets(text)
  local buckets = {}
  for entry in string.gmatch(text or '', '[^;]+') do
    local start, successes, failures, slow, streak = string.match(entry, '^(%-?%d+),(%d+),(%d+),(%d+),(%d+)$')
    if not start then
      return {}
    end
    buckets[#buckets + 1] = {
      start = tonumber(start),
      successes = tonumber(successes),
      failures = tonumber(failures),
      slow = tonumber(slow),
      streak = tonumber(streak),
    }
  end
  return buckets
end

local function read(raw)
  local document = {}
  for _, field in ipairs(FIELDS) do
    document[field] = TEXTS[field] and (raw[field] or '') or number(raw[field])
  end
  document.st = STATES[raw.st] and raw.st or 'closed'
  document.L = read_leases(raw.L)
  document.w = read_buckets(raw.w)
  return document
end

local function write_leases(leases)
  local entries = {}
  for place, lease in ipairs(leases) do
    entries[place] = lease.token .. '=' .. digits(lease.expiry)
  end
  return table.concat(entries, ';')
end

local function write_buckets(buckets)
  local entries = {}
  for place, each in ipairs(buckets) do
    entries[place] = string.format('%.0f,%.0f,%.0f,%.0f,%.0f', each.start, each.successes, each.failures, each.slow, each.streak)
  end
  return table.concat(entries, ';')
end

local function write(document) -- '' stands for a default
  local texts = {}
  for _, field in ipairs(FIELDS) do
    local value = document[field]
    if not TEXTS[field] and type(value) == 'number' then
      value = value ~= 0 and digits(value) or ''
    end
    texts[field] = value
  end
  texts.st = document.st ~= 'closed' and document.st or ''
  texts.L = write_leases(document.L)
  texts.w = write_buckets(document.w)
  return texts
end

local raw, exists = {}, 0
for place, value in ipairs(redis.call('HMGET', KEYS[1], unpack(FIELDS))) do
  if value then
    raw[FIELDS[place]] = value
    exists = 1
  end
end
local draft = read(raw)
local before = write(draft)
local moves = {}

-- the window ---------------------------------------------------------------------------------------------------------------------

local function tally()
  local sums = {successes = 0, failures = 0, slow = 0, streak = 0}
  for place = #draft.w, 1, -1 do
    local bucket = draft.w[place]
    if bucket.start <= now - policy.window then
      break
    end
    if sums.successes == 0 then
      sums.streak = sums.streak + bucket.streak
    end
    sums.successes = sums.successes + bucket.successes
    sums.failures = sums.failures + bucket.failures
    sums.slow = sums.slow + bucket.slow
  end
  return sums
end

local function after(sums, outcome, count)
  local failed = FAILURES[outcome]
  return {
    start = sums.start,
    successes = sums.successes + (failed and 0 or count),
    failures = sums.failures + (failed and count or 0),
    slow = sums.slow + (SLOW[outcome] and count or 0),
    streak = failed and sums.streak + count or 0,
  }
end

local function broken(sums)
  local calls = sums.successes + sums.failures
  if sums.streak >= policy.consecutive then
    return 'consecutive_failures'
  end
  if calls == 0 or calls < policy.min_calls then
    return nil
  end
  if sums.failures / calls >= policy.failure_rate then
    return 'failure_rate'
  end
  if policy.slow_rate >= 0 and sums.slow / calls >= policy.slow_rate then
    return 'slow_call_rate'
  end
  return nil
end

local function breaking(sums, outcome, count) -- which of these results is the first to break a rule, from 1; 0 if none does
  local judged = math.min(count, math.max(1, policy.min_calls - sums.successes - sums.failures))
  local low, high
  if broken(after(sums, outcome, judged)) then
    low, high = 1, judged
  elseif broken(after(sums, outcome, count)) then
    low, high = judged + 1, count
  else
    return 0
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if broken(after(sums, outcome, middle)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- moves --------------------------------------------------------------------------------------------------------------------------

local function move(state, rule, reason, actor, wait) -- wait in ms: -1 without end, 0 where time does not end it
  local window = tally()
  local from = draft.st
  draft.st = state
  draft.ep = math.max(draft.ep + 1, now)
  draft.ou = wait > 0 and now + wait or 0
  draft.L, draft.w, draft.hs = {}, {}, 0
  draft.why = state == 'closed' and '' or reason
  draft.who = state == 'closed' and '' or actor
  moves[#moves + 1] = {
    draft.ep, now, from, state, rule, reason, actor, window.successes + window.failures, window.failures, wait,
  }
end

local function opening(opens)
  local seconds = math.min(policy.open_max, policy.open_for * policy.open_growth ^ math.min(opens - 1, STEEPEST))
  return round(1000 * seconds * (1 + policy.open_jitter * (2 * request.draw - 1)))
end

local function trip(rule)
  local calm = draft.st == 'closed' and now - draft.ca >= policy.window
  local opens = calm and 1 or draft.oc + 1
  local reason = rule
  if rule ~= 'slow_call_rate' and draft.why ~= '' then
    reason = draft.why
  end
  move('open', rule, reason, '', opening(opens))
  draft.oc = opens
end

local function recover()
  move('closed', 'probe', draft.why, '', 0)
  draft.ca = now
end

-- time ---------------------------------------------------------------------------------------------------------------------------

local function follow_clock()
  local back = draft.at - now
  if back <= 0 then
    return
  end
  draft.at = now
  draft.ou = draft.ou ~= 0 and math.max(1, draft.ou - back) or 0
  draft.bu = math.max(0, draft.bu - back)
  draft.ca = math.max(0, draft.ca - back)
  draft.ra = math.max(0, draft.ra - back)
  for _, lease in ipairs(draft.L) do
    lease.expiry = lease.expiry - back
  end
  for _, bucket in ipairs(draft.w) do
    bucket.start = bucket.start - back
  end
end

local function lapse()
  if OVERRIDES[draft.st] and 0 < draft.ou and draft.ou <= now then
    move('closed', 'lapsed', draft.why, '', 0)
  end
end

local function cut()
  if draft.st == 'open' then
    draft.ou = math.min(draft.ou, now + policy.longest)
  end
  for _, lease in ipairs(draft.L) do
    lease.expiry = math.min(lease.expiry, now + policy.lease)
  end
  if draft.st == 'half_open' and draft.hs >= policy.successes then
    recover()
  end
end

-- orders -------------------------------------------------------------------------------------------------------------------------

local function close(actor, reason, forget)
  local blocked = draft.bu > now
  local history = draft.oc ~= 0 or draft.bn ~= 0 or #draft.w > 0
  local idle = draft.st == 'closed' and not blocked and not (forget and history)
  if idle and draft.ep ~= 0 then
    return
  end
  move('closed', 'operator', reason, actor, 0)
  draft.ca = now
  draft.bu, draft.bw = 0, ''
  if forget then
    draft.oc, draft.bn, draft.ca = 0, 0, 0
  end
end

local function restore(actor, reason, wait, state, epoch)
  local idle = state == 'closed' and draft.st == 'closed'
  if draft.ep >= epoch or state == 'half_open' or idle then
    return
  end
  draft.ep = epoch
  move(state, 'restored', reason, actor, state == 'closed' and 0 or wait)
  draft.oc = state == 'open' and 1 or 0
end

local function obey(operation, actor, reason, wait, state, epoch)
  if operation == 'open' then
    move('forced_open', 'operator', reason, actor, wait)
  elseif operation == 'disable' then
    move('disabled', 'operator', reason, actor, wait)
  elseif operation == 'close' then
    close(actor, reason, false)
  elseif operation == 'reset' then
    close(actor, reason, true)
  elseif operation == 'restore' then
    restore(actor, reason, wait, state, epoch)
  end
end

-- half-open ----------------------------------------------------------------------------------------------------------------------

local function live()
  local count, soonest = 0, nil
  for _, lease in ipairs(draft.L) do
    if lease.expiry > now then
      count = count + 1
      soonest = math.min(soonest or lease.expiry, lease.expiry)
    end
  end
  return count, soonest
end

local function room(count)
  return count < policy.probes and count + draft.hs < math.max(policy.probes, policy.successes)
end

local function lend(token)
  if not token or draft.bu > now then
    return 0
  end
  if draft.st == 'open' and draft.ou <= now then
    move('half_open', 'lapsed', draft.why, '', 0)
  end
  if draft.st ~= 'half_open' then
    return 0
  end
  local gone, held = {}, {}
  for _, lease in ipairs(draft.L) do
    if lease.expiry > now then
      if lease.token == token then
        return 1
      end
      held[#held + 1] = lease
    elseif lease.token ~= token then
      gone[#gone + 1] = lease
    end
  end
  if not room(#held) then
    return 0
  end
  local leases = {}
  for place = math.max(1, #gone - REMEMBERED + 1), #gone do
    leases[#leases + 1] = gone[place]
  end
  for _, lease in ipairs(held) do
    leases[#leases + 1] = lease
  end
  leases[#leases + 1] = {token = token, expiry = now + policy.lease}
  draft.L = leases
  return 1
end

-- results ------------------------------------------------------------------------------------------------------------------------

local function count_run(outcome, count, reason)
  local buckets = draft.w
  local width = math.max(1, math.floor(policy.window / BUCKETS))
  if #buckets == 0 or buckets[#buckets].start + width <= now then
    if #buckets >= BUCKETS then
      table.remove(buckets, 1)
    end
    buckets[#buckets + 1] = {start = now, successes = 0, failures = 0, slow = 0, streak = 0}
  end
  buckets[#buckets] = after(buckets[#buckets], outcome, count)
  if not FAILURES[outcome] then
    draft.bn = 0
  elseif reason ~= '' then
    draft.why = reason
  end
end

local function judge(outcome, count, reason) -- returns how many came after the trip
  local broken_at = breaking(tally(), outcome, count)
  count_run(outcome, broken_at > 0 and broken_at or count, reason)
  local rule = broken_at > 0 and broken(tally())
  if not rule then
    return 0
  end
  trip(rule)
  return count - broken_at
end

local function hear(token, outcome, reason) -- returns how many results counted
  local held = {}
  for _, lease in ipairs(draft.L) do
    if lease.token ~= token then
      held[#held + 1] = lease
    end
  end
  if #held == #draft.L then
    return 0
  end
  draft.L = held
  if FAILURES[outcome] then
    draft.why = reason ~= '' and reason or draft.why
    trip('probe')
  elseif outcome == 'l' and policy.slow_rate >= 0 then
    trip('slow_call_rate')
  elseif outcome ~= 'i' then
    draft.bn = 0
    draft.hs = draft.hs + 1
    if draft.hs >= policy.successes then
      recover()
    end
  end
  return 1
end

local function apply(epoch, token, reason, runs) -- returns how many were too late
  local late = 0
  for outcome, count in string.gmatch(runs, '(%a)(%d+)') do
    count = tonumber(count)
    if epoch ~= draft.ep then
      late = late + count
    elseif token ~= '' then
      late = late + count - hear(token, outcome, reason)
    elseif draft.st == 'closed' and outcome ~= 'i' then
      late = late + judge(outcome, count, reason)
    end
  end
  return late
end

local function cool(epoch, seconds, cap, growing, reason)
  if growing == 1 then
    local running = draft.bu > now and draft.bw == reason
    if running or epoch ~= draft.ep then
      return
    end
    seconds = seconds * 2 ^ math.min(draft.bn, STEEPEST)
    draft.bn = draft.bn + 1
  end
  local ends = now + round(1000 * math.min(seconds, cap))
  if ends > math.max(draft.bu, now) then
    draft.bu, draft.bw = ends, reason
  end
end

-- the retry budget ---------------------------------------------------------------------------------------------------------------

local function owed()
  return math.max(0, draft.rt - policy.floor * math.max(0, now - draft.ra))
end

local function draw_retries(tries, retries)
  if tries + retries > 0 and policy.deposit >= 0 then
    draft.rt = math.max(0, owed() - tries * policy.deposit) + retries * (RETRY + policy.deposit)
    draft.ra = draft.rt > 0 and now or 0
  end
end

-- the turn -----------------------------------------------------------------------------------------------------------------------

local function wait_ms()
  if draft.st == 'half_open' then
    local count, soonest = live()
    return count > 0 and not room(count) and soonest - now or 0
  end
  if OVERRIDES[draft.st] and draft.ou == 0 then
    return -1
  end
  return draft.st == 'closed' and 0 or math.max(0, draft.ou - now)
end

local function expire() -- but an override without end must not end by being forgotten
  if OVERRIDES[draft.st] and draft.ou == 0 then
    redis.call('PERSIST', KEYS[1])
    return
  end
  local last = math.max(now, draft.ou, draft.bu)
  for _, lease in ipairs(draft.L) do
    last = math.max(last, lease.expiry)
  end
  redis.call('PEXPIRE', KEYS[1], digits(last - now + 3 * policy.window + KEEP))
end

local function save() -- returns whether anything had to be written
  local texts, changed = write(draft), false
  for _, field in ipairs(FIELDS) do
    changed = changed or texts[field] ~= before[field]
  end
  if not changed then
    return false
  end
  texts.at = digits(now)
  local set, unset = {KEYS[1], 'at', texts.at}, {KEYS[1]}
  for _, field in ipairs(FIELDS) do
    if texts[field] == '' then
      unset[#unset + 1] = raw[field] and field or nil
    elseif texts[field] ~= raw[field] then
      set[#set + 1] = field
      set[#set + 1] = texts[field]
    end
  end
  redis.call('HSET', unpack(set))
  if #unset > 1 then
    redis.call('HDEL', unpack(unset))
  end
  expire()
  return true
end

local function log(moved)
  local entry = {KEYS[2], 'MAXLEN', ARGV[3], '*'}
  for place, name in ipairs(MOVED) do
    entry[#entry + 1] = name
    entry[#entry + 1] = type(moved[place]) == 'number' and digits(moved[place]) or moved[place]
  end
  redis.call('XADD', unpack(entry))
  redis.call('PEXPIRE', KEYS[2], KEEP_LOG)
end

follow_clock()
lapse()
if request.order then
  obey(unpack(request.order))
end
local late, permit, written = 0, 0, false
if request.mode == 'step' then
  cut()
  for _, batch in ipairs(request.batches or {}) do
    late = late + apply(unpack(batch))
  end
  for _, cooldown in ipairs(request.cooldowns or {}) do
    cool(unpack(cooldown))
  end
  draw_retries(request.tries or 0, request.retries or 0)
  permit = lend(request.token)
end
if request.mode ~= 'look' then
  written = save()
  for _, moved in ipairs(moves) do
    log(moved)
  end
end

local window, blocked = tally(), math.max(0, draft.bu - now)
local reply = {
  draft.st, draft.ep, now, wait_ms(), blocked, permit,
  window.successes, window.failures, window.slow, window.streak,
  draft.why, blocked > 0 and draft.bw or '', draft.who, late, written and 1 - exists or 0, owed(),
}
for _, moved in ipairs(moves) do
  reply[#reply + 1] = moved
end
return reply
