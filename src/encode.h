/*
** encode.h - encoders for tokens: base64url, hexadecimal, JSON.
*/
#ifndef ksms_encode_h
#define ksms_encode_h

#include <stddef.h>

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* Characters of 'n' bytes in base64url without padding (RFC 4648, 5). */
#define ksms_b64_len(n) (((n)*4 + 2) / 3)

/* Writes ksms_b64_len(n) characters; returns their number. */
size_t ksms_b64url(char *to, const unsigned char *s, size_t n);

/* Writes two hexadecimal digits a byte. */
char *ksms_hex(char *p, const unsigned char *s, size_t n);

/* Appends 's' as the inside of a JSON string (RFC 8259, 7): 6 * n at most. */
char *ksms_json_escape(char *p, const char *s, size_t n);

/* Is this UTF-8 (RFC 3629)? A claim that is not cannot be read back. */
int ksms_is_utf8(const char *s, size_t n);

/* Appends a whole number; 'printf' would obey the host's locale. */
char *ksms_integer(char *p, double value);

/* Appends a C string. */
char *ksms_literal(char *p, const char *s);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
