// A job for tests/test_real_programs.sh: Go that calls C's malloc by cgo, from many
// goroutines and so threads, and a child that fails.
package main

/*
#include <stdlib.h>
#include <string.h>
static int churn(int seed) {
    char *p = malloc(1 + seed * 37 % 3000);
    memset(p, seed & 127, 1 + seed * 37 % 3000);
    p = realloc(p, 4000);
    int first = p[0];
    free(p);
    return first;
}
*/
import "C"

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"unsafe"
)

func main() {
	rounds, _ := strconv.Atoi(os.Args[1])
	var wait sync.WaitGroup
	sums := make([]int, 8)
	for n := range sums {
		wait.Add(1)
		go func(n int) {
			defer wait.Done()
			for i := 0; i < rounds/8; i++ {
				sums[n] += int(C.churn(C.int(i + n)))
				text := C.CString(strconv.Itoa(i))
				sums[n] += len(C.GoString(text))
				C.free(unsafe.Pointer(text))
			}
		}(n)
	}
	wait.Wait()
	fmt.Println(sums)
	fmt.Println("child", exec.Command("/bin/false").Run())
	os.Exit(13)
}
