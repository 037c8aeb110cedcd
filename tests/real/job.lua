-- A job for tests/test_real_programs.sh: tables, strings, closures, a child that fails.
-- usage: lua job.lua ROUNDS
local rounds = tonumber(arg[1])
local words, names = {}, {}
for i = 0, rounds - 1 do
    local word = "w" .. i * 7919 % 1009
    if not words[word] then
        words[word] = {}
        names[#names + 1] = word
    end
    table.insert(words[word], tostring(i))
end
table.sort(names)
local lines, sum = {}, 0
for _, word in ipairs(names) do
    lines[#lines + 1] = word .. " " .. table.concat(words[word], ",")
end
local text = table.concat(lines, "\n")
for digit in text:gmatch("%d") do sum = sum + digit end
print(#names, #text, sum, (text:gsub("w", "word")):len())
collectgarbage()
print("child", os.execute("/bin/false"))
os.exit(8, true)
