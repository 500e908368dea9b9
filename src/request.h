/*
** request.h - what both transports agree on about the request they send.
*/
#ifndef ksms_request_h
#define ksms_request_h

#include <stddef.h>

#include "koresms.h"

#define KSMS_USER_AGENT     "koresms/" KSMS_VERSION

/* The header fields that are the same in every request. */
#define KSMS_FIELDS_TEXT \
    "Content-Type: application/json\r\n" \
    "Accept: application/json\r\n" \
    "User-Agent: " KSMS_USER_AGENT "\r\n"

/*
** May these bytes stand as the value of the 'auth' header? Visible ASCII
** only: libcurl writes a header as it is given, line ends included.
*/
static inline int ksms_is_token(const char *s, size_t n)
{
    const char *end = s + n;
    for (; s < end; s++) {
        if (*s < '!' || *s > '~')
            return 0;
    }
    return n > 0;
}

#endif
