-- For wrk: POSTs the bodies in the file $BODIES, one a line, in turn; every answer must be a success and hold one of the
-- numbers in $NUMBERS. Prints the throughput as JSON. (No latencies: wrk fills up the histogram that it prints.)
local bodies, known, at = {}, {}, 0
wrong = 0
local threads = {}

function setup(thread) table.insert(threads, thread) end

function init(_)
  for line in io.lines(os.getenv("BODIES")) do table.insert(bodies, line) end
  for number in string.gmatch(os.getenv("NUMBERS"), "[^ ]+") do known[number] = true end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Authorization"] = "Bearer " .. (os.getenv("TOKEN") or "")
  for i, body in ipairs(bodies) do bodies[i] = wrk.format(nil, nil, nil, body) end
end

function request()
  at = at % #bodies + 1
  return bodies[at]
end

function response(status, _, body)
  -- Cut to the digits that every peer writes.
  local number = string.match(body, "0%.%d%d%d%d%d%d%d%d")
  if status ~= 200 or not known[number] then wrong = wrong + 1 end
end

function done(summary, _, _)
  local errors, bad = summary.errors, 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  io.write(string.format('\nRESULT {"rps": %.1f, "failed": %d}\n', summary.requests / (summary.duration / 1e6),
    bad + errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
