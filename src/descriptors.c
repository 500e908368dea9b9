/*
** descriptors.c - see descriptors.h.
*/
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */

#include "descriptors.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Descriptors below this are those of standard input, output and error. */
#define FIRST_DESCRIPTOR 3

void ksms_fill_standard(void)
{
    int fd;
    for (fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            return;
    }
}

int ksms_above_standard(int fd)
{
    int moved;
    if (fd < 0 || fd >= FIRST_DESCRIPTOR)
        return fd;
    moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
    (void)close(fd);
    return moved;
}

int ksms_has_descriptors(int need)
{
    int fds[KSMS_DESCRIPTORS_MAX], n = 0, enough;
    while (n < need && (fds[n] = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0)
        n++;
    enough = n == need;
    while (n > 0)
        (void)close(fds[--n]);
    return enough;
}
