-- One step with one circuit, atomically: apply the order, count results, start cool-downs, perhaps grant a probe, describe the circuit.
--
-- This script does what circuit.py does, in the same order and under the same names. circuit.py is the specification: the reason for a
-- line is given there. The tests run both side by side and compare the reply and the whole hash after every step. Change together:
-- this script; circuit.py and the modules that it names; redis_protocol.py, which writes ARGV and reads the reply.
--
-- KEYS[1]  hash: the circuit, with the fields of state.py; a field at its default is absent.
-- KEYS[2]  stream: its transitions, oldest first. Both keys contain {client}, a hash tag: so a cluster keeps them in one slot.
-- KEYS[3]  only with an operator's order: a key without content. The server checks the user's right to it before the script runs.
-- ARGV[1]  the policy, JSON: the fields of BreakerPolicy, but window, probe_lease, longest_open and longest_cooldown in ms,
--          slow_call_rate -1 if no call is judged slow, and in place of retry_ratio and retry_burst: deposit (units an attempt pays in;
--          -1: no retry budget) and largest_deficit (units).
-- ARGV[2]  the request, JSON: mode ("look": write nothing; "order": no policy was given; "step") and jitter_sample; where present:
--          token, wanted, attempts, retries, rejected_functions, rejected_requests,
--          order [operation, actor, reason, wait ms, state, epoch, born_at],
--          batches [[epoch, token, reason, runs]...] with runs like "s12f3" (s success, f failure, l slow success, g slow failure,
--          r rejected, i ignored), cooldowns [[epoch, seconds, max_seconds, 1 if doubling, reason]...].
-- ARGV[3]  how many transitions the stream keeps.
-- Returns  {state, epoch, now, wait_ms, cooldown_ms, granted (1, 0), successes, failures, slow, streak, reason, cooldown_reason,
--          actor, late, created (1 if the hash did not exist), budget_used, admitted, ramp_ms, rejected, rejected_functions,
--          rejected_requests, born_at, damaged (1, 0), unreadable (fields), transition...}, each transition a list in the order of TRANSITION_FIELDS.
--
-- The time is the server's, so that the clocks of the processes do not matter. Redis runs a script without interruption, which makes
-- the step atomic. It does not roll back: so everything is read before anything is written, and if the first write fails (out of
-- memory, read-only replica) nothing was changed. Needs Redis 6.2 or Valkey. They replicate what a script wrote, not the script: so
-- replicas get the same data although the script reads the time.

local FIELDS = {
  'state', 'epoch', 'state_until', 'cooldown_until', 'cooldown_reason', 'cooldown_count', 'ramp_first', 'ramp_at', 'ramp_step',
  'ramp_used', 'open_count', 'closed_at', 'successes', 'leases', 'buckets', 'rejected', 'rejected_functions', 'rejected_requests',
  'born_at', 'ordered_epoch', 'reason', 'actor', 'budget_used', 'budget_used_at', 'at',
}
local TEXT_FIELDS = {cooldown_reason = true, reason = true, actor = true}
local STATES = {closed = true, open = true, half_open = true, forced_open = true, disabled = true}
local OVERRIDES = {forced_open = true, disabled = true}
local FAILURES = {f = true, g = true}
local SLOW = {l = true, g = true}
local TRANSITION_FIELDS = {'epoch', 'at_ms', 'from_state', 'to_state', 'rule', 'reason', 'actor', 'calls', 'failures', 'wait_ms'}
local BUCKETS = 10
local REMEMBERED = 8
local MAX_EXPONENT = 64
local UNITS_PER_RETRY = 60000
local LARGEST = 2 ^ 52
local LONGEST_TEXT = 4000
local STEP_MS = 100
local STEPS = 20
local AFTER_COOLDOWN = 1
local AFTER_CLOSING = 4
local KEEP = 86400000 -- ms: a circuit is deleted one day after its last time (opening, cool-down, lease, window) is over
local DAY = 86400000 -- ms
local KEEP_LOG = 604800000 -- ms: its transitions are deleted after a week without a new one

local policy = cjson.decode(ARGV[1])
local request = cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

-- numbers ------------------------------------------------------------------------------------------------------------------------
-- All are whole except rates and seconds. Lua has only doubles, which are exact up to 2^53: enough for milliseconds since 1970.

-- Rounds half to even, as Python's round does: otherwise an opening of 12.5 ms would last longer here than in circuit.py.
local function round(x)
  local below = math.floor(x)
  local rest = x - below
  if rest > 0.5 or (rest == 0.5 and below % 2 == 1) then
    return below + 1
  end
  return below
end

-- tostring would write 1.7e+12 for a time in ms: it keeps only 14 digits.
local function digits(number)
  return string.format('%.0f', number)
end

-- Like _whole in state.py: anything that is no whole number, or is too large, counts as absent (nil). tonumber alone would accept '0x10'
-- and '1e3'.
local function whole(text)
  local value = text and string.find(text, '^%-?%d+$') and tonumber(text)
  return value and math.abs(value) <= LARGEST and value or nil
end

-- the data -----------------------------------------------------------------------------------------------------------------------

local function read_leases(text)
  local leases = {}
  for entry in string.gmatch(text or '', '[^;]+') do
    local token, expiry = string.match(entry, '^(.*)=(%-?%d+)$')
    if not whole(expiry) then
      return nil
    end
    leases[#leases + 1] = {token = token, expiry = whole(expiry)}
  end
  return leases
end

local function read_buckets(text)
  local buckets = {}
  for entry in string.gmatch(text or '', '[^;]+') do
    local start, successes, failures, slow, streak = string.match(entry, '^(%-?%d+),(%d+),(%d+),(%d+),(%d+)$')
    local bucket = {
      start = whole(start),
      successes = whole(successes),
      failures = whole(failures),
      slow = whole(slow),
      streak = whole(streak),
    }
    if not (bucket.start and bucket.successes and bucket.failures and bucket.slow and bucket.streak) then
      return nil
    end
    buckets[#buckets + 1] = bucket
  end
  return buckets
end

local unreadable = 0

-- nil if the field cannot be read: it has its default then, as in state.py, and is counted.
local function read_field(field, text)
  if TEXT_FIELDS[field] then
    return #text <= LONGEST_TEXT and text or nil
  elseif field == 'state' then
    return STATES[text] and text or nil
  elseif field == 'leases' then
    return read_leases(text)
  elseif field == 'buckets' then
    return read_buckets(text)
  end
  local number = whole(text)
  return number and number >= 0 and number or nil
end

local function read(raw)
  local data = {}
  for _, field in ipairs(FIELDS) do
    if raw[field] then
      data[field] = read_field(field, raw[field])
      unreadable = unreadable + (data[field] == nil and 1 or 0)
    end
    if data[field] == nil then
      data[field] = TEXT_FIELDS[field] and '' or 0
    end
  end
  data.state = data.state ~= 0 and data.state or 'closed'
  data.leases = data.leases ~= 0 and data.leases or {}
  data.buckets = data.buckets ~= 0 and data.buckets or {}
  return data
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
  for place, bucket in ipairs(buckets) do
    entries[place] = string.format(
      '%.0f,%.0f,%.0f,%.0f,%.0f', bucket.start, bucket.successes, bucket.failures, bucket.slow, bucket.streak
    )
  end
  return table.concat(entries, ';')
end

-- '' stands for a default, which is not kept.
local function write(data)
  local texts = {}
  for _, field in ipairs(FIELDS) do
    local value = data[field]
    if not TEXT_FIELDS[field] and type(value) == 'number' then
      value = value ~= 0 and digits(value) or ''
    end
    texts[field] = value
  end
  texts.state = data.state ~= 'closed' and data.state or ''
  texts.leases = write_leases(data.leases)
  texts.buckets = write_buckets(data.buckets)
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
local transitions = {}

-- the window ---------------------------------------------------------------------------------------------------------------------

local function sum_buckets()
  local sums = {successes = 0, failures = 0, slow = 0, streak = 0}
  for place = #draft.buckets, 1, -1 do
    local bucket = draft.buckets[place]
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

local function plus(sums, outcome, count)
  local failed = FAILURES[outcome]
  return {
    start = sums.start,
    successes = sums.successes + (failed and 0 or count),
    failures = sums.failures + (failed and count or 0),
    slow = sums.slow + (SLOW[outcome] and count or 0),
    streak = failed and sums.streak + count or 0,
  }
end

local function violated_rule(sums)
  local calls = sums.successes + sums.failures
  if sums.streak >= policy.consecutive_failures then
    return 'consecutive_failures'
  end
  if calls == 0 or calls < policy.min_calls then
    return nil
  end
  if sums.failures / calls >= policy.failure_rate then
    return 'failure_rate'
  end
  if policy.slow_call_rate >= 0 and sums.slow / calls >= policy.slow_call_rate then
    return 'slow_call_rate'
  end
  return nil
end

-- Which of *count* equal results is the first to violate a rule, from 1; 0 if none does. By halving: window.py says why that is exact.
local function first_violation(sums, outcome, count)
  local judged = math.min(count, math.max(1, policy.min_calls - sums.successes - sums.failures))
  local low, high
  if violated_rule(plus(sums, outcome, judged)) then
    low, high = 1, judged
  elseif violated_rule(plus(sums, outcome, count)) then
    low, high = judged + 1, count
  else
    return 0
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if violated_rule(plus(sums, outcome, middle)) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

-- the ramp: how a closed circuit lets its traffic back in ------------------------------------------------------------------------

local function begin_ramp(first)
  draft.ramp_first, draft.ramp_at, draft.ramp_step, draft.ramp_used = first, 0, 0, 0
end

local function admit(wanted)
  if wanted == 0 or draft.ramp_first == 0 or draft.state ~= 'closed' or draft.cooldown_until > now then
    return 0
  end
  if draft.ramp_at == 0 then
    draft.ramp_at = now
  end
  local step = math.floor((now - draft.ramp_at) / STEP_MS)
  if step ~= draft.ramp_step then
    draft.ramp_step, draft.ramp_used = step, 0
  end
  local admitted = math.min(wanted, math.max(0, draft.ramp_first * 2 ^ step - draft.ramp_used))
  draft.ramp_used = draft.ramp_used + admitted
  return admitted
end

-- -1: the ramp begins with the next attempt; 0: there is none.
local function ramp_ms()
  local elapsed = now - draft.ramp_at
  if draft.ramp_first == 0 or (draft.ramp_at ~= 0 and elapsed >= STEPS * STEP_MS) then
    return 0
  end
  return draft.ramp_at ~= 0 and STEP_MS - elapsed % STEP_MS or -1
end

-- transitions --------------------------------------------------------------------------------------------------------------------

local function end_row()
  draft.rejected, draft.rejected_functions, draft.rejected_requests = 0, 0, 0
end

-- wait in ms: -1 without end, 0 if time does not end the state.
local function move(state, rule, reason, actor, wait)
  local window = sum_buckets()
  local from_state = draft.state
  draft.born_at = draft.epoch ~= 0 and draft.born_at or now
  draft.state = state
  draft.epoch = math.max(draft.epoch + 1, now)
  draft.state_until = wait > 0 and now + wait or 0
  draft.leases, draft.buckets, draft.successes = {}, {}, 0
  draft.reason = state == 'closed' and '' or reason
  draft.actor = state == 'closed' and '' or actor
  end_row()
  begin_ramp(draft.cooldown_until > now and AFTER_COOLDOWN or 0)
  transitions[#transitions + 1] = {
    draft.epoch, now, from_state, state, rule, reason, actor, window.successes + window.failures, window.failures, wait,
  }
end

local function open_duration_ms(open_count)
  local seconds = math.min(policy.open_max, policy.open_for * policy.open_growth ^ math.min(open_count - 1, MAX_EXPONENT))
  return round(1000 * seconds * (1 + policy.open_jitter * (2 * request.jitter_sample - 1)))
end

local function trip(rule)
  local calm = draft.state == 'closed' and now - draft.closed_at >= policy.window
  local open_count = calm and 1 or draft.open_count + 1
  local reason = rule
  if rule ~= 'slow_call_rate' and draft.reason ~= '' then
    reason = draft.reason
  end
  move('open', rule, reason, '', open_duration_ms(open_count))
  draft.open_count = open_count
end

local function recover()
  move('closed', 'probe', draft.reason, '', 0)
  draft.closed_at = now
  if draft.cooldown_until <= now then
    begin_ramp(AFTER_CLOSING)
    draft.ramp_at = now
  end
end

-- time ---------------------------------------------------------------------------------------------------------------------------

-- Every field that holds a time must be listed here, as in state.py's move_times_back.
local function adjust_clock()
  local jump = draft.at - now
  if jump <= 0 then
    return
  end
  draft.at = now
  draft.state_until = draft.state_until ~= 0 and math.max(1, draft.state_until - jump) or 0
  draft.cooldown_until = math.max(0, draft.cooldown_until - jump)
  draft.ramp_at = math.max(0, draft.ramp_at - jump)
  draft.closed_at = math.max(0, draft.closed_at - jump)
  draft.budget_used_at = math.max(0, draft.budget_used_at - jump)
  for _, lease in ipairs(draft.leases) do
    lease.expiry = lease.expiry - jump
  end
  for _, bucket in ipairs(draft.buckets) do
    bucket.start = bucket.start - jump
  end
end

local function expire()
  if OVERRIDES[draft.state] and 0 < draft.state_until and draft.state_until <= now then
    move('closed', 'lapsed', draft.reason, '', 0)
  end
end

-- The last entries of a list, at most *count*.
local function last(list, count)
  local kept = {}
  for place = math.max(1, #list - count + 1), #list do
    kept[#kept + 1] = list[place]
  end
  return kept
end

local function is_damaged()
  local opened = draft.state == 'open' and draft.state_until - policy.longest_open or 0
  local latest = math.max(opened, draft.cooldown_until - policy.longest_cooldown, draft.closed_at, draft.ramp_at)
  return math.max(latest, draft.budget_used_at) > now + DAY
end

local damaged = 0

local function cut_to_policy()
  damaged = is_damaged() and 1 or 0
  if draft.state == 'open' then
    draft.state_until = math.min(draft.state_until, now + policy.longest_open)
  end
  draft.cooldown_until = math.min(draft.cooldown_until, now + policy.longest_cooldown)
  draft.leases = last(draft.leases, REMEMBERED + policy.half_open_probes)
  for _, lease in ipairs(draft.leases) do
    lease.expiry = math.min(lease.expiry, now + policy.probe_lease)
  end
  draft.closed_at = math.min(draft.closed_at, now)
  draft.budget_used = math.min(draft.budget_used, policy.largest_deficit)
  draft.budget_used_at = math.min(draft.budget_used_at, now)
  local buckets = {}
  for _, bucket in ipairs(draft.buckets) do
    if bucket.start <= now then
      buckets[#buckets + 1] = bucket
    end
  end
  draft.buckets = last(buckets, BUCKETS)
  draft.ramp_first = math.min(draft.ramp_first, AFTER_CLOSING)
  draft.ramp_at = math.min(draft.ramp_at, now)
  if draft.ramp_at ~= 0 and now - draft.ramp_at >= STEPS * STEP_MS then
    begin_ramp(0)
  end
end

local function close_if_enough()
  if draft.state == 'half_open' and draft.successes >= policy.successes_to_close then
    recover()
  end
end

-- orders -------------------------------------------------------------------------------------------------------------------------

local function close(actor, reason, forget)
  local cooling = draft.cooldown_until > now
  local history = draft.open_count ~= 0 or draft.cooldown_count ~= 0 or #draft.buckets > 0 or draft.rejected ~= 0
  local idle = draft.state == 'closed' and not cooling and not (forget and history)
  if idle and draft.epoch ~= 0 then
    return
  end
  move('closed', 'operator', reason, actor, 0)
  draft.closed_at = now
  draft.cooldown_until, draft.cooldown_reason = 0, ''
  begin_ramp(0)
  if forget then
    draft.open_count, draft.cooldown_count, draft.closed_at = 0, 0, 0
  end
end

local function restore(actor, reason, wait, state, epoch, born_at)
  local already_closed = state == 'closed' and draft.state == 'closed'
  local ordered = draft.ordered_epoch > 0 and draft.epoch == draft.ordered_epoch and draft.born_at ~= born_at
  if draft.epoch >= epoch or epoch >= LARGEST or ordered or state == 'half_open' or already_closed then
    return
  end
  draft.epoch = epoch
  move(state, 'restored', reason, actor, state == 'closed' and 0 or wait)
  draft.open_count = state == 'open' and 1 or 0
end

local function apply_order(operation, actor, reason, wait, state, epoch, born_at)
  if operation == 'open' then
    move('forced_open', 'operator', reason, actor, wait)
  elseif operation == 'disable' then
    move('disabled', 'operator', reason, actor, wait)
  elseif operation == 'close' then
    close(actor, reason, false)
  elseif operation == 'reset' then
    close(actor, reason, true)
  elseif operation == 'restore' then
    restore(actor, reason, wait, state, epoch, born_at)
  end
  if operation ~= 'restore' then
    draft.ordered_epoch = draft.epoch
  end
end

-- half-open ----------------------------------------------------------------------------------------------------------------------

-- How many leases are unexpired, and when the first of them expires.
local function live_leases()
  local count, soonest = 0, nil
  for _, lease in ipairs(draft.leases) do
    if lease.expiry > now then
      count = count + 1
      soonest = math.min(soonest or lease.expiry, lease.expiry)
    end
  end
  return count, soonest
end

local function has_free_lease(count)
  local needed = math.max(policy.half_open_probes, policy.successes_to_close)
  return count < policy.half_open_probes and count + draft.successes < needed
end

local function acquire_probe(token)
  if not token or draft.cooldown_until > now then
    return 0
  end
  if draft.state == 'open' and draft.state_until <= now then
    move('half_open', 'lapsed', draft.reason, '', 0)
  end
  if draft.state ~= 'half_open' then
    return 0
  end
  local expired, live = {}, {}
  for _, lease in ipairs(draft.leases) do
    if lease.expiry > now then
      if lease.token == token then
        return 1
      end
      live[#live + 1] = lease
    elseif lease.token ~= token then
      expired[#expired + 1] = lease
    end
  end
  if not has_free_lease(#live) then
    return 0
  end
  local leases = {}
  for place = math.max(1, #expired - REMEMBERED + 1), #expired do
    leases[#leases + 1] = expired[place]
  end
  for _, lease in ipairs(live) do
    leases[#leases + 1] = lease
  end
  leases[#leases + 1] = {token = token, expiry = now + policy.probe_lease}
  draft.leases = leases
  return 1
end

-- results ------------------------------------------------------------------------------------------------------------------------

local function count_results(outcome, count, reason)
  local buckets = draft.buckets
  local width = math.max(1, math.floor(policy.window / BUCKETS))
  if #buckets == 0 or buckets[#buckets].start + width <= now then
    if #buckets >= BUCKETS then
      table.remove(buckets, 1)
    end
    buckets[#buckets + 1] = {start = now, successes = 0, failures = 0, slow = 0, streak = 0}
  end
  buckets[#buckets] = plus(buckets[#buckets], outcome, count)
  if not FAILURES[outcome] then
    draft.cooldown_count = 0
    end_row()
  elseif reason ~= '' then
    draft.reason = reason
  end
end

-- Returns how many of these results came after the circuit opened.
local function on_result(outcome, count, reason)
  if outcome == 'r' then
    draft.rejected = draft.rejected + count
    return 0
  end
  local violation = first_violation(sum_buckets(), outcome, count)
  count_results(outcome, violation > 0 and violation or count, reason)
  local rule = violation > 0 and violated_rule(sum_buckets())
  if not rule then
    return 0
  end
  trip(rule)
  return count - violation
end

-- Returns how many results counted: 1, or 0 if the token is unknown.
local function on_probe_result(token, outcome, reason)
  local others = {}
  for _, lease in ipairs(draft.leases) do
    if lease.token ~= token then
      others[#others + 1] = lease
    end
  end
  if #others == #draft.leases then
    return 0
  end
  draft.leases = others
  if FAILURES[outcome] then
    draft.reason = reason ~= '' and reason or draft.reason
    trip('probe')
  elseif outcome == 'l' and policy.slow_call_rate >= 0 then
    trip('slow_call_rate')
  elseif outcome == 'r' then
    draft.rejected = draft.rejected + 1
  elseif outcome ~= 'i' then
    draft.cooldown_count = 0
    end_row()
    draft.successes = draft.successes + 1
    if draft.successes >= policy.successes_to_close then
      recover()
    end
  end
  return 1
end

-- Returns how many results were too late. The epoch is compared for every run: one of them may open the circuit.
local function apply_batch(epoch, token, reason, runs)
  local late = 0
  for outcome, count in string.gmatch(runs, '(%a)(%d+)') do
    count = tonumber(count)
    if epoch ~= draft.epoch then
      late = late + count
    elseif token ~= '' then
      late = late + count - on_probe_result(token, outcome, reason)
    elseif draft.state == 'closed' and outcome ~= 'i' then
      late = late + on_result(outcome, count, reason)
    end
  end
  return late
end

local function note_kinds(functions, requests)
  if draft.rejected > 0 then
    draft.rejected_functions = math.max(draft.rejected_functions, functions)
    draft.rejected_requests = math.max(draft.rejected_requests, requests)
  end
end

local function cool_down(epoch, seconds, max_seconds, doubling, reason)
  local same = reason == draft.cooldown_reason
  local running = same and draft.cooldown_until > now
  if doubling == 1 and (running or epoch ~= draft.epoch) then
    return
  end
  local count = same and draft.cooldown_count or 0
  local nothing_admitted = draft.ramp_first > 0 and draft.ramp_at == 0
  local repeats = doubling == 1 or not (running or nothing_admitted)
  local level = repeats and count or math.max(0, count - 1)
  seconds = seconds * (doubling == 1 and 2 or policy.open_growth) ^ math.min(level, MAX_EXPONENT)
  local until_ms = now + round(1000 * math.min(seconds, max_seconds))
  if until_ms <= now then
    return
  end
  draft.cooldown_count = repeats and count + 1 or math.max(1, count)
  if until_ms > draft.cooldown_until then
    draft.cooldown_until, draft.cooldown_reason = until_ms, reason
    begin_ramp(AFTER_COOLDOWN)
  end
end

-- the retry budget ---------------------------------------------------------------------------------------------------------------

local function budget_used()
  return math.max(0, draft.budget_used - policy.retry_floor * math.max(0, now - draft.budget_used_at))
end

local function update_budget(attempts, retries)
  if attempts + retries > 0 and policy.deposit >= 0 then
    draft.budget_used = math.max(0, budget_used() - attempts * policy.deposit) + retries * (UNITS_PER_RETRY + policy.deposit)
    draft.budget_used_at = draft.budget_used > 0 and now or 0
  end
end

-- the step -----------------------------------------------------------------------------------------------------------------------

local function wait_ms()
  if draft.state == 'half_open' then
    local count, soonest = live_leases()
    return count > 0 and not has_free_lease(count) and soonest - now or 0
  end
  if OVERRIDES[draft.state] and draft.state_until == 0 then
    return -1
  end
  return draft.state == 'closed' and 0 or math.max(0, draft.state_until - now)
end

-- An override without end must not end because Redis deletes its hash.
local function set_expiry()
  if OVERRIDES[draft.state] and draft.state_until == 0 then
    redis.call('PERSIST', KEYS[1])
    return
  end
  local last = math.max(now, draft.state_until, draft.cooldown_until)
  for _, lease in ipairs(draft.leases) do
    last = math.max(last, lease.expiry)
  end
  redis.call('PEXPIRE', KEYS[1], digits(last - now + 3 * policy.window + KEEP))
end

-- Returns whether anything had to be written. A look, a refused probe or an ignored result must not cause replication traffic, so only
-- fields that changed are written. `before` is the hash as it was understood, `raw` as it was: a field that could not be read is
-- overwritten with the next change.
local function save()
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
  set_expiry()
  return true
end

local function log_transition(transition)
  local entry = {KEYS[2], 'MAXLEN', ARGV[3], '*'}
  for place, name in ipairs(TRANSITION_FIELDS) do
    entry[#entry + 1] = name
    entry[#entry + 1] = type(transition[place]) == 'number' and digits(transition[place]) or transition[place]
  end
  redis.call('XADD', unpack(entry))
  redis.call('PEXPIRE', KEYS[2], KEEP_LOG)
end

adjust_clock()
expire()
if request.order then
  apply_order(unpack(request.order))
end
local late, granted, admitted, written = 0, 0, 0, false
if request.mode == 'step' then
  cut_to_policy()
  close_if_enough()
  for _, batch in ipairs(request.batches or {}) do
    late = late + apply_batch(unpack(batch))
  end
  note_kinds(request.rejected_functions or 0, request.rejected_requests or 0)
  for _, cooldown in ipairs(request.cooldowns or {}) do
    cool_down(unpack(cooldown))
  end
  update_budget(request.attempts or 0, request.retries or 0)
  granted = acquire_probe(request.token)
  admitted = admit(request.wanted or 0)
end
if request.mode ~= 'look' then
  written = save()
  for _, transition in ipairs(transitions) do
    log_transition(transition)
  end
end

local window, cooldown_ms = sum_buckets(), math.max(0, draft.cooldown_until - now)
local reply = {
  draft.state, draft.epoch, now, wait_ms(), cooldown_ms, granted,
  window.successes, window.failures, window.slow, window.streak,
  draft.reason, cooldown_ms > 0 and draft.cooldown_reason or '', draft.actor, late, written and 1 - exists or 0, budget_used(),
  admitted, ramp_ms(), draft.rejected, draft.rejected_functions, draft.rejected_requests, draft.born_at,
  damaged, unreadable,
}
for _, transition in ipairs(transitions) do
  reply[#reply + 1] = transition
end
return reply
