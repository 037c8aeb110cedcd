/*
 * test_cxx.cc - the public headers from C++: a container whose elements live in a
 * named heap. Exit status 0 if all went well.
 */
#include <memopt/memopt.h>
#include <memopt/plugin.h>
#include <memopt/report.h>
#include <memopt/show.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <string>
#include <vector>

template <class T> struct HeapAllocator {
    using value_type = T;
    memopt_heap *heap;
    explicit HeapAllocator(memopt_heap *h) : heap(h) {
    }
    template <class U> HeapAllocator(const HeapAllocator<U> &other) : heap(other.heap) {
    }
    T *allocate(std::size_t n) {
        void *p = memopt_heap_calloc(heap, n, sizeof(T));
        if (p == nullptr)
            throw std::bad_alloc();
        return static_cast<T *>(p);
    }
    void deallocate(T *p, std::size_t) {
        memopt_heap_free(heap, p);
    }
    template <class U> bool operator==(const HeapAllocator<U> &other) const {
        return heap == other.heap;
    }
    template <class U> bool operator!=(const HeapAllocator<U> &other) const {
        return heap != other.heap;
    }
};

static int check(bool ok, const char *what) {
    if (!ok)
        std::fprintf(stderr, "test_cxx: %s\n", what);
    return ok ? 0 : 1;
}

/* The _INIT macros and structs of the other headers. */
static bool tensors() {
    memopt_tensor tensor = MEMOPT_TENSOR_INIT;
    memopt_tensors *file = nullptr;
    memopt_error error = MEMOPT_ERROR_INIT;
    return memopt_tensors_open("/dev/null", &file, &error) == -EINVAL && tensor.name == nullptr &&
           memopt_dtype_size(MEMOPT_DTYPE_BF16) == 2;
}

static bool training() {
    memopt_batch_options options = MEMOPT_BATCH_OPTIONS_INIT;
    memopt_batch_piece piece = MEMOPT_BATCH_PIECE_INIT;
    memopt_checkpoints plan = MEMOPT_CHECKPOINTS_INIT;
    memopt_schedule schedule = MEMOPT_SCHEDULE_INIT;
    memopt_batch *batch = nullptr;
    memopt_layer layer = {1, 1, 0, 0, 1};
    unsigned char keep = 0;
    double rate = -1;
    options.batch = 4;
    bool good = memopt_batch_new(&options, &batch, nullptr) == 0 &&
                memopt_batch_next(batch, &piece) == 1 && piece.count == 4 &&
                memopt_checkpoint_plan(&layer, 1, 100, &keep, &plan, nullptr) == 0 && keep == 1 &&
                memopt_schedule_rate(&schedule, 0, &rate, nullptr) == 0 && rate == 0;
    memopt_batch_free(batch);
    return good;
}

int main() {
    setenv("MEMOPT_CONF", "/dev/null", 1);
    memopt_heap_options options = MEMOPT_HEAP_OPTIONS_INIT;
    memopt_error error = MEMOPT_ERROR_INIT;
    memopt_heap *heap = nullptr;
    options.allocator = "libc";
    options.limit = 1 << 20;
    if (memopt_heap_open("cxx", &options, &heap, &error) < 0)
        return check(false, error.message);
    int failed = 0;
    memopt_heap_statistics stats = MEMOPT_HEAP_STATISTICS_INIT;
    {
        std::vector<int, HeapAllocator<int>> numbers{HeapAllocator<int>(heap)};
        for (int i = 0; i < 1000; i++)
            numbers.push_back(i);
        using Pair = std::pair<const int, int>;
        std::map<int, int, std::less<int>, HeapAllocator<Pair>> squares{HeapAllocator<Pair>(heap)};
        for (int i = 0; i < 100; i++)
            squares[i] = i * i;
        memopt_heap_stats(heap, &stats);
        failed += check(stats.live_blocks == 101, "101 blocks are live");
        failed += check(numbers[999] == 999 && squares[9] == 81, "the contents are there");
        bool thrown = false;
        try {
            numbers.reserve(1 << 20);
        } catch (const std::bad_alloc &) {
            thrown = true;
        }
        failed += check(thrown, "the limit throws");
        failed += check(numbers.size() == 1000, "and leaves the vector as it was");
    }
    memopt_heap_stats(heap, &stats);
    failed += check(stats.live_blocks == 0, "all blocks are freed");
    failed += check(stats.refused == 1, "one request was refused");
    failed += check(memopt_heap_destroy(heap, &error) == 0, "destroy");
    failed += check(tensors(), "tensors");
    failed += check(training(), "training");
    return failed != 0;
}
