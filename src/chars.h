/*
** chars.h - classes of ASCII characters. The locale has no say: the bytes of numbers and protocols
** are ASCII wherever the program runs.
*/
#ifndef ksms_chars_h
#define ksms_chars_h

static inline int ksms_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline char ksms_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static inline int ksms_is_alpha(char c)
{
    return ksms_lower(c) >= 'a' && ksms_lower(c) <= 'z';
}

static inline int ksms_is_hex(char c)
{
    return ksms_is_digit(c) || (ksms_lower(c) >= 'a' && ksms_lower(c) <= 'f');
}

#endif
