/* Runs the steps of a plan that another machine has compiled: run_plan PLAN RESULT

   All numbers are 64 bits, little endian. PLAN: how many buffers; of each its size and content; how
   many steps; of each the number of its kernel, of its threads and of its words; of each word the
   number of its buffer (-1: none) and what is added to its address. RESULT: the buffers' content.
   Buffers end as near to a page that is not there as a multiple of 64 allows. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef void kernel(void *words, int64_t thread, int64_t threads);
extern kernel *const kernels[];

static FILE *plan;

static void give_up(const char *why) {
    perror(why);
    exit(2);
}

static int64_t number(void) {
    int64_t n;
    if (fread(&n, sizeof n, 1, plan) != 1) give_up("the plan ends early");
    return n;
}

static char *fenced(int64_t size) {
    int64_t page = sysconf(_SC_PAGESIZE), whole = (size / page + 1) * page;
    char *p = mmap(0, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p + page, whole, PROT_READ | PROT_WRITE)) give_up("memory");
    memset(p + page, 0xFF, whole);
    return p + page + (whole - size) / 64 * 64;
}

int main(int count, char **names) {
    if (count != 3 || !(plan = fopen(names[1], "rb"))) give_up("plan");
    int64_t buffers = number();
    char **at = calloc(buffers + 1, sizeof *at);
    int64_t *size = calloc(buffers + 1, sizeof *size);
    if (!at || !size) give_up("memory");
    for (int64_t i = 0; i < buffers; i++) {
        size[i] = number();
        at[i] = fenced(size[i]);
        if (fread(at[i], 1, size[i], plan) != (size_t)size[i]) give_up("the plan ends early");
    }
    for (int64_t steps = number(); steps > 0; steps--) {
        int64_t which = number(), threads = number(), length = number();
        int64_t *words = calloc(length + 1, sizeof *words);
        if (!words) give_up("memory");
        for (int64_t i = 0; i < length; i++) {
            int64_t buffer = number();
            words[i] = number() + (buffer < 0 ? 0 : (int64_t)(intptr_t)at[buffer]);
        }
        for (int64_t thread = 0; thread < threads; thread++) kernels[which](words, thread, threads);
        free(words);
    }
    FILE *result = fopen(names[2], "wb");
    if (!result) give_up("result");
    for (int64_t i = 0; i < buffers; i++)
        if (fwrite(at[i], 1, size[i], result) != (size_t)size[i]) give_up("result");
    if (fclose(result)) give_up("result");
    return 0;
}
