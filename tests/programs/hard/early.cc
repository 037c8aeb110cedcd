// early.cc - a library that builds a large table in a constructor, before main() and before
// memopt's own: more blocks than memopt keeps room for at the end, in all and at once.
#include <cstddef>
#include <map>
#include <string>
#include <vector>

static std::map<std::string, std::vector<int>> table;
static struct build {
    build() {
        for (int i = 0; i < 60000; i++)
            for (int j = 0; j < 40; j++)
                table["entry number " + std::to_string(i)].push_back(j);
    }
} built;

extern "C" std::size_t entries();
extern "C" std::size_t entries() {
    return table.size();
}
