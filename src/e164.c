/*
** e164.c - is this text a telephone number in E.164 form?
** The digit string is at most 15 digits long and its country code never
** begins with 0 (ITU-T E.164, 6.2); the platform wants it with a leading '+'.
** No clean-up is done: what a number was meant to be is for the caller to
** say, and a wrong guess texts a stranger.
*/
#include <string.h>

#include "chars.h"
#include "koresms.h"

/* What a byte that is no digit probably was. */
static const char *strange_byte(unsigned char c)
{
    if (c == '\0')
        return "a NUL byte; only digits may follow the '+'";
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        return "a blank or line end; write the digits without any";
    if (c == '-' || c == '.' || c == '(' || c == ')' || c == '/')
        return "punctuation; write the digits without any";
    if (ksms_is_alpha((char)c))
        return "a letter; only digits may follow the '+'";
    if (c == '+')
        return "a second '+'; only digits may follow the first";
    if (c >= 0x80)
        return "not an ASCII digit; digits of other scripts are not taken";
    return "not a digit; only digits may follow the '+'";
}

/* The fault of a text that does not begin with '+'. */
static const char *no_plus(const char *s, size_t n)
{
    size_t i, digits = 0;
    for (i = 0; i < n; i++)
        digits += (size_t)ksms_is_digit(s[i]);
    if (n >= 4 && memcmp(s, "tel:", 4) == 0)
        return "the prefix 'tel:'; write '+' and the digits alone";
    if (n >= 3 && memcmp(s, "011", 3) == 0)
        return "the dialling prefix '011'; write '+' in its place";
    if (n >= 2 && memcmp(s, "00", 2) == 0)
        return "the dialling prefix '00'; write '+' in its place";
    if (digits == n && n <= 6)
        return "no '+': this looks like a short code, which is no E.164 number";
    if (ksms_is_digit(s[0]))
        return "no '+': begin with '+' and the country code";
    return strange_byte((unsigned char)s[0]);
}

const char *ksms_e164_fault(const char *s, size_t n, size_t *at)
{
    size_t i;
    *at = 0;
    if (n == 0)
        return "the text is empty; write '+', country code and number";
    *at = 1;
    if (s[0] != '+')
        return no_plus(s, n);
    for (i = 1; i < n; i++) {
        *at = i + 1;
        if (!ksms_is_digit(s[i]))
            return strange_byte((unsigned char)s[i]);
        if (i == 1 && s[i] == '0')
            return "a leading zero; no country code begins with 0";
        if (i >= KSMS_E164_MAX)
            return "too long; E.164 allows at most 15 digits";
    }
    *at = n;
    if (n < 3)
        return "too short; write '+', country code and number";
    return NULL;
}

/***
Checks a telephone number against E.164, as the platform wants it written:
`+`, a country code that does not begin with 0, in all 2 to 15 ASCII digits.
@function e164
@tparam string number the text to check; any other type raises
@treturn[1] string the same text
@treturn[2] nil
@treturn[2] string which byte is wrong, why, and what would be right
@treturn[2] string the code "invalid_number"
@see ITU-T E.164 (11/2010), 6.2
*/
static int l_e164(lua_State *L)
{
    size_t n, at;
    const char *s, *fault;
    /* A number has lost its '+' and, past 2^53, its last digits. */
    luaL_checktype(L, 1, LUA_TSTRING);
    s = lua_tolstring(L, 1, &n);
    fault = ksms_e164_fault(s, n, &at);
    if (fault == NULL) {
        lua_settop(L, 1);
        return 1;
    }
    if (at == 0)
        lua_pushfstring(L, "not an E.164 number: %s", fault);
    else
        lua_pushfstring(L, "not an E.164 number: at byte %d: %s", (int)at, fault);
    return ksms_fail(L, "invalid_number");
}

void ksms_open_e164(lua_State *L)
{
    lua_pushcfunction(L, l_e164);
    lua_setfield(L, -2, "e164");
}
