-- A job for the benchmark: binary trees of tables, which Lua takes from malloc one by one
-- (through realloc, which is its only way to memory).
-- usage: lua5.4 trees.lua [DEPTH [ROUNDS]]
local depth, rounds = tonumber(arg[1]) or 14, tonumber(arg[2]) or 40

local function build(d) if d == 0 then return {} end return {build(d - 1), build(d - 1)} end
local function count(t) if not t[1] then return 1 end return 1 + count(t[1]) + count(t[2]) end

local kept, sum = build(depth), 0
for i = 1, rounds do sum = sum + count(build(depth - i % 4)) end
print(sum, count(kept))
