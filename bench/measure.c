/*
** measure.c - runs a program and writes down what it cost: its own time and
** memory, and those of its children that it waited for.
**   measure FILE SECONDS PROGRAM [ARGUMENT...]
** FILE gets one line: seconds from start to end, user seconds, system seconds,
** KiB of the largest process, exit status. A program that runs for longer than
** SECONDS is killed; the status is then 128 + SIGKILL.
*/
#define _DEFAULT_SOURCE         /* wait4 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t child;

static void on_signal(int signal)
{
    (void)signal;
    kill(child, SIGKILL);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec * 1e-6;
}

int main(int argc, char **argv)
{
    struct sigaction action;
    struct rusage used;
    double begun;
    int status;
    FILE *file;
    if (argc < 4)
        return 2;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    begun = now();
    if ((child = fork()) < 0)
        return 2;
    if (child == 0) {
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    alarm((unsigned)atoi(argv[2]));
    while (wait4(child, &status, 0, &used) < 0)
        if (errno != EINTR)
            return 2;
    begun = now() - begun;
    if ((file = fopen(argv[1], "w")) == NULL)
        return 2;
    status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(file, "%.6f %.6f %.6f %ld %d\n", begun, seconds(used.ru_utime),
            seconds(used.ru_stime), used.ru_maxrss, status);
    return fclose(file) == 0 ? 0 : 2;
}
