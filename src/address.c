/*
** address.c - host and port, read strictly: what two programs could read in two ways is
** refused, and nothing is cleaned up.
*/
#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <string.h>

#include "address.h"
#include "koresms.h"

int ksms_skip_prefix(const char **s, const char *end, const char *prefix)
{
    const char *p = *s;
    for (; *prefix != '\0'; p++, prefix++) {
        if (p == end || ksms_lower(*p) != *prefix)
            return 0;
    }
    *s = p;
    return 1;
}

/* What stands where host and port should have ended. */
static const char *tail_fault(const char *s, const char *end)
{
    switch (*s) {
    case '/': return "has a path; give scheme, host and port alone";
    case '?': return "has a query; give scheme, host and port alone";
    case '#': return "has a fragment; give scheme, host and port alone";
    case ':':
        return memchr(s + 1, ':', (size_t)(end - s) - 1) != NULL
                   ? "is a bare IPv6 address; write it in brackets: [::1]"
                   : "has a port but no name before it";
    case '"':
    case '\'':
    case '`': return "has a quote; write it without any";
    case ' ':
    case '\t':
    case '\r':
    case '\n':
    case '\0': return "has a blank, line end or NUL; write it without any";
    default:
        if ((unsigned char)*s >= 0x80)
            return "has a character that is not ASCII; write such a name as xn--...";
        return "has a character that no host name has";
    }
}

/* Is there a dot with nothing before it? */
static int has_empty_label(const char *s, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (s[i] == '.' && (i == 0 || s[i - 1] == '.'))
            return 1;
    return 0;
}

static const char *read_port(const char **s, const char *end, long *port)
{
    const char *p = *s;
    *port = 0;
    while (p < end && ksms_is_digit(*p) && *port <= 65535)
        *port = *port * 10 + (*p++ - '0');
    if (p == *s)
        return "has a colon but no port number after it";
    if (*port < 1 || *port > 65535)
        return "has a port out of range; expected 1 to 65535";
    *s = p;
    return NULL;
}

/* Whether the system reads these bytes as an address of the family. */
static int is_literal(int family, const char *s, size_t n)
{
    char text[KSMS_NAME_MAX + 1];
    struct in6_addr room; /* has room for the other family, too */
    if (n >= sizeof text)
        return 0;
    memcpy(text, s, n);
    text[n] = '\0';
    return inet_pton(family, text, &room) == 1;
}

/* Does the last label have digits alone? Then it is an address, or nothing. */
static int ends_in_number(const char *s, size_t n)
{
    const char *end = s + n, *p = end;
    while (p > s && ksms_is_digit(p[-1]))
        p--;
    return p < end && (p == s || p[-1] == '.');
}

static const char *read_host(const char **s, const char *end, ksms_address *a)
{
    const char *p = *s;
    a->ipv6 = p < end && *p == '[';
    a->host = p += a->ipv6;
    if (a->ipv6) {
        while (p < end && (ksms_is_hex(*p) || *p == ':' || *p == '.'))
            p++;
        if (p == end || *p != ']')
            return "has a bracket but no IPv6 address in brackets";
    } else {
        while (p < end && ksms_is_host(*p))
            p++;
    }
    a->host_len = (size_t)(p - a->host);
    *s = p + a->ipv6;
    if (a->host_len == 0)
        return *s == end ? "is empty; give a name such as host.example" : tail_fault(*s, end);
    if (a->host_len > KSMS_NAME_MAX)
        return "has a name that is too long; expected at most 255 bytes";
    if (a->ipv6 && !is_literal(AF_INET6, a->host, a->host_len))
        return "has brackets, and what stands in them is no IPv6 address";
    return NULL;
}

const char *ksms_read_address(const char *s, const char *end, ksms_address *a)
{
    const char *fault = read_host(&s, end, a);
    if (fault != NULL)
        return fault;
    if (s < end && *s == ':') {
        if (memchr(s + 1, ':', (size_t)(end - s) - 1) != NULL)
            return tail_fault(s, end);
        s++;
        fault = read_port(&s, end, &a->port);
        if (fault != NULL)
            return fault;
    }
    if (s < end && *s == '/' && s + 1 == end)
        s++;
    if (s != end)
        return tail_fault(s, end);
    if (!a->ipv6 && has_empty_label(a->host, a->host_len))
        return "has a dot with nothing before it";
    if (!a->ipv6 && ends_in_number(a->host, a->host_len)
        && !is_literal(AF_INET, a->host, a->host_len))
        return "ends in a number and is no IPv4 address, which has four numbers from 0 to 255 "
               "without leading zeros";
    return NULL;
}
