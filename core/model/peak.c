/* peak.c - see peak.h. */
#include "config.h"

#include "core/model/peak.h"

#include "core/base/proc.h"
#include "core/model/model.h"

#include <unistd.h>

uint64_t mo_peak_of_this_process(void) {
    struct mo_proc_sizes sizes;
    return mo_proc_read_sizes(getpid(), &sizes) < 0 ? MEMOPT_UNKNOWN : sizes.peak;
}

uint64_t mo_peak_kept(const struct rusage *usage) {
    return (uint64_t)usage->ru_maxrss * 1024;
}

/* How far the kernel may be off when it adds up a resident set: each CPU counts for
 * itself up to a batch of pages. A program that did not need more than memopt did
 * before execve() must not be given memopt's size. */
static uint64_t inexactness(void) {
    long cpus = sysconf(_SC_NPROCESSORS_CONF);
    return 2 * (uint64_t)(cpus > 16 ? 2 * cpus : 32) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t mo_peak_of_child(const struct rusage *usage, uint64_t launcher) {
    uint64_t peak = mo_peak_kept(usage);
    return peak > launcher + inexactness() ? peak : MEMOPT_UNKNOWN;
}

uint64_t mo_peak_largest(const struct memopt_report *report, const struct rusage *usage) {
    uint64_t largest = 0;
    int all_known = report->process_count > 0;
    for (size_t i = 0; i < report->process_count; i++) {
        uint64_t rss = report->processes[i].peak_rss;
        if (rss == MEMOPT_UNKNOWN)
            all_known = 0;
        else if (rss > largest)
            largest = rss;
    }
    uint64_t waited = usage == NULL ? 0 : mo_peak_kept(usage);
    if (!all_known && waited > largest)
        largest = waited;
    return largest == 0 ? MEMOPT_UNKNOWN : largest;
}

static uint64_t raised(uint64_t size, uint64_t least) {
    return size != MEMOPT_UNKNOWN && size < least ? least : size;
}

void mo_report_set_peak(struct memopt_report *report, uint64_t peak_rss, uint64_t main_rss) {
    struct mo_model *model = mo_model_of(report);
    struct memopt_process *main = report->process_count > 0 ? model->processes : NULL;
    size_t programs = 0;
    for (size_t i = 0; i < report->process_count; i++)
        programs += model->processes[i].pid == main->pid;
    /* of several programs that it was, one after the other, it may be any one's */
    if (main != NULL && main->is_main && main->peak_rss == MEMOPT_UNKNOWN && programs == 1)
        main->peak_rss = main_rss;
    /* The kernel's maximum lags behind the size that it gives at any moment. */
    if (main != NULL && main->is_main && main->peak_rss_least != MEMOPT_UNKNOWN) {
        main->peak_rss = raised(main->peak_rss, main->peak_rss_least);
        peak_rss = raised(peak_rss, main->peak_rss_least);
    }
    uint64_t least = 0;
    for (size_t i = 0; i < report->process_count; i++) {
        const struct memopt_process *process = &model->processes[i];
        if (process->peak_rss != MEMOPT_UNKNOWN) {
            if (peak_rss == MEMOPT_UNKNOWN || process->peak_rss > peak_rss)
                peak_rss = process->peak_rss;
        } else if (process->peak_rss_least != MEMOPT_UNKNOWN && process->peak_rss_least > least) {
            least = process->peak_rss_least;
        }
    }
    /* What was seen while it ran and what wait4() gives are sums that the kernel makes in
     * two ways, some hundred KiB apart: less than this is no sign of another process. */
    enum { APART = 1 << 20 };
    if (peak_rss != MEMOPT_UNKNOWN && peak_rss < least)
        peak_rss = least - peak_rss < APART ? least : MEMOPT_UNKNOWN;
    report->peak_rss = peak_rss;
}
