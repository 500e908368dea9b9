/*
** address.h - host and port of an address, for the platform's origin and for a proxy's.
*/
#ifndef ksms_address_h
#define ksms_address_h

#include <stddef.h>

#include "chars.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* Labels of a DNS name; '_' stands in names that people use. */
static inline int ksms_is_host(char c)
{
    return ksms_is_alpha(c) || ksms_is_digit(c) || c == '-' || c == '.' || c == '_';
}

typedef struct ksms_address {
    const char *host; /* without brackets */
    size_t host_len;
    int ipv6;
    long port; /* left alone where none is given */
} ksms_address;

/* Moves '*s' behind 'prefix' (lower case), in any case of letters; 0 where it is not there. */
int ksms_skip_prefix(const char **s, const char *end, const char *prefix);

/*
** Reads "host", "host:port", "[::1]:port", and one '/' behind it, up to 'end'. NULL where it
** is good, else a static text that says why not and quotes nothing.
*/
const char *ksms_read_address(const char *s, const char *end, ksms_address *a);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
