-- One wrk run: a GET, or a JSON POST of about 900 bytes from a browser with a session cookie.
-- Both the client's headers and the body are the same for every server measured.
--
--   wrk … -s wrk.lua URL -- METHOD THINK_MS
--
-- THINK_MS above 0 makes each connection pause before a request, for a random time that is
-- THINK_MS on average, so that a chosen rate can be offered. Ends with one line of JSON.

local think_ms = 0

local function json_body()
  local steps = {}
  for i = 1, 12 do
    steps[i] = string.format('{"step":%d,"tool":"search","input":"parcel %d","ok":true}', i, 1000 + i)
  end
  return '{"subject":"parcel not delivered","tenant":"acme","steps":[' .. table.concat(steps, ",")
    .. '],"note":"' .. string.rep("x", 150) .. '"}'
end

local function pause()
  return math.floor(math.random() * 2 * think_ms + 0.5)
end

function init(args)
  local origin = "http://" .. wrk.headers["Host"]
  wrk.method = args[1]
  wrk.headers["Accept"] = "application/json"
  wrk.headers["Cookie"] = "session=0123456789abcdef0123456789abcdef"
  if wrk.method == "POST" then
    wrk.headers["Origin"] = origin
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = json_body()
  end
  think_ms = tonumber(args[2])
  if think_ms > 0 then
    delay = pause -- the global that wrk looks for
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"bad_status":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
