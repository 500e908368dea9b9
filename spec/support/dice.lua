--- Random numbers that are the same on every Lua.

local Dice = {}
Dice.__index = Dice

--- @tparam number seed
local function new_dice(seed)
  local self = setmetatable({ state = seed % 2147483646 + 1 }, Dice)
  for _ = 1, 5 do self:roll(2) end -- neighbouring seeds begin alike
  return self
end

--- A whole number from 1 to n.
function Dice:roll(n)
  self.state = self.state * 16807 % 2147483647
  return math.floor(self.state / 2147483647 * n) + 1
end

function Dice:one_of(list) return list[self:roll(#list)] end

function Dice:chance(percent) return self:roll(100) <= percent end

return new_dice
