// cxx_exceptions.cc - a C++ program with exceptions, threads and containers.
//
// Prints the same with every allocator; run with and without memopt by
// tests/test_real_programs.sh.
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

class parse_error : public std::runtime_error {
public:
    parse_error(const std::string &text, std::size_t where)
        : std::runtime_error(text + " at " + std::to_string(where)) {}
};

static int depth_of(const std::string &text, std::size_t &at, int depth) {
    auto held = std::make_unique<std::string>(text.substr(at)); // must go when we throw
    int deepest = depth;
    while (at < text.size()) {
        char c = text[at++];
        if (c == '(') {
            deepest = std::max(deepest, depth_of(text, at, depth + 1));
        } else if (c == ')') {
            if (depth == 0)
                throw parse_error("unexpected ')' in '" + *held + "'", at);
            return deepest;
        } else if (c != 'x') {
            throw std::invalid_argument(std::string("bad character '") + c + "'");
        }
    }
    if (depth != 0)
        throw parse_error("unfinished", at);
    return deepest;
}

static std::string job(unsigned seed) {
    std::map<std::string, std::vector<int>> seen;
    std::unordered_map<int, std::shared_ptr<std::string>> shared;
    unsigned state = seed * 2654435761u + 1;
    for (int i = 0; i < 1500; i++) {
        std::string text;
        for (int k = 0; k < 24; k++) {
            state = state * 1664525 + 1013904223;
            text += "((x))y"[(state >> 24) % (i % 3 ? 5 : 6)];
        }
        try {
            std::size_t at = 0;
            seen["depth " + std::to_string(depth_of(text, at, 0))].push_back(i);
        } catch (const parse_error &error) {
            seen["parse error"].push_back(i);
            shared[i % 97] = std::make_shared<std::string>(error.what());
        } catch (const std::exception &error) {
            seen[error.what()].push_back(i);
            try {
                std::throw_with_nested(std::runtime_error("nested"));
            } catch (const std::nested_exception &nested) {
                shared[i % 89] = std::make_shared<std::string>("nested");
            }
        }
    }
    std::ostringstream out;
    for (const auto &entry : seen)
        out << entry.first << ": " << entry.second.size() << "; ";
    std::size_t length = 0;
    for (const auto &entry : shared)
        length += entry.second->size();
    out << shared.size() << " shared, " << length << " bytes";
    return out.str();
}

int main() {
    std::vector<std::thread> threads;
    std::map<unsigned, std::string> results;
    std::mutex lock;
    for (unsigned i = 0; i < 8; i++) {
        threads.emplace_back([i, &results, &lock] {
            std::string result = job(i);
            std::lock_guard<std::mutex> guard(lock);
            results[i] = std::move(result);
        });
    }
    for (auto &thread : threads)
        thread.join();
    for (const auto &entry : results)
        std::cout << entry.first << ": " << entry.second << "\n";

    // an exception that crosses threads
    std::future<int> future = std::async(std::launch::async, []() -> int {
        throw std::out_of_range(std::string(300, 'r'));
    });
    try {
        std::cout << future.get() << "\n";
    } catch (const std::out_of_range &error) {
        std::cout << "from another thread: " << std::string(error.what()).size() << " characters\n";
    }
    return 3; // so that the exit status is seen to come through
}
