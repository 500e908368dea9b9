/*
** encode.c - texts as a token needs them. Each function writes at 'to' or 'p',
** where the caller has the room, and returns the end of what it wrote.
*/
#include <string.h>

#include "encode.h"

size_t ksms_b64url(char *to, const unsigned char *s, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *p = to;
    for (; n >= 3; s += 3, n -= 3) {
        *p++ = digit[s[0] >> 2];
        *p++ = digit[(s[0] & 3) << 4 | s[1] >> 4];
        *p++ = digit[(s[1] & 15) << 2 | s[2] >> 6];
        *p++ = digit[s[2] & 63];
    }
    if (n > 0) {
        *p++ = digit[s[0] >> 2];
        if (n == 1) {
            *p++ = digit[(s[0] & 3) << 4];
        } else {
            *p++ = digit[(s[0] & 3) << 4 | s[1] >> 4];
            *p++ = digit[(s[1] & 15) << 2];
        }
    }
    return (size_t)(p - to);
}

char *ksms_hex(char *p, const unsigned char *s, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    for (; n > 0; s++, n--) {
        *p++ = digit[*s >> 4];
        *p++ = digit[*s & 15];
    }
    return p;
}

char *ksms_json_escape(char *p, const char *s, size_t n)
{
    for (; n > 0; s++, n--) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            *p++ = '\\';
            *p++ = (char)c;
        } else if (c < 0x20) {
            memcpy(p, "\\u00", 4);
            p = ksms_hex(p + 4, &c, 1);
        } else {
            *p++ = (char)c;
        }
    }
    return p;
}

int ksms_is_utf8(const char *s, size_t n)
{
    const unsigned char *p = (const unsigned char *)s, *end = p + n;
    while (p < end) {
        unsigned long c = *p++;
        int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
        static const unsigned long least[] = {0, 0x80, 0x800, 0x10000};
        int i;
        if (more < 0 || end - p < more)
            return 0;
        if (more > 0)
            c &= 0x3FUL >> more;
        for (i = 0; i < more; i++, p++) {
            if (*p >> 6 != 2)
                return 0;
            c = c << 6 | (*p & 0x3F);
        }
        if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
            return 0;
    }
    return 1;
}

char *ksms_integer(char *p, double value)
{
    char digits[24];
    int n = 0;
    unsigned long long v = (unsigned long long)value;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

char *ksms_literal(char *p, const char *s)
{
    size_t n = strlen(s);
    memcpy(p, s, n);
    return p + n;
}
