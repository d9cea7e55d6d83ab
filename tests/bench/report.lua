-- wrk's figures as one line of JSON. With a file of paths as argument, they are asked for in turn, not one path alone.
-- A path may be followed by a blank and the ETag that the phone has. A second argument "close" takes a new connection
-- for each. "refused" counts the answers that were neither 2xx nor 3xx.
local paths, asked = nil, 0

function init(args)
  if args[1] then
    paths = {}
    for line in io.lines(args[1]) do
      local path, tag = line:match("^(%S+) ?(.*)$")
      local headers = {}
      for name, value in pairs(wrk.headers) do headers[name] = value end
      if tag ~= "" then headers["If-None-Match"] = tag end
      if args[2] == "close" then headers["Connection"] = "close" end
      paths[#paths + 1] = wrk.format("GET", path, headers)
    end
    request = function()
      asked = asked + 1
      return paths[(asked - 1) % #paths + 1]
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %.1f, "p99_us": %.1f, "refused": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
