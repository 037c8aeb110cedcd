// symbolic_main.cc - makes and frees across the border to symbolic.cc.
#include <cstdio>
#include <string>
#include <vector>

extern "C" int *make();
extern "C" void unmake(int *p);

int main() {
    int sum = 0;
    for (int i = 0; i < 100; i++) {
        int *p = make();
        sum += *p;
        delete p;
        unmake(new int(i));
        delete[] new int[3];
        sum += static_cast<int>(std::vector<std::string>(20, std::string(100, 'x')).size());
    }
    std::printf("%d\n", sum);
    return 0;
}
