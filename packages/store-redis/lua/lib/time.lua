-- Times are ms since 1970 by Redis's clock, plus an offset that tests use.
local function now_ms(offset)
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(offset)
end

-- A whole number as text: Lua would write a large one as 1e+15.
local function decimal(number)
  return string.format('%.0f', number)
end
