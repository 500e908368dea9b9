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

#define BLANK "a blank of another kind, such as a no-break one; write the digits without any"
#define INVISIBLE \
    "an invisible character, as address books and web pages put around numbers; " \
    "write '+' and the digits alone"
#define DASH  "a dash; write the digits without any"
#define QUOTE "a quote, as spreadsheets put before numbers; write '+' and the digits alone"
#define PLUS  "a '+' of another kind; write the ASCII one"

/* Characters of UTF-8 that come with numbers which were copied from elsewhere: the bytes that
   they begin with, and a range of the last byte. */
static const struct {
    char lead[3];
    unsigned char from, to;
    const char *text;
} characters[] = {
    {"\xC2", 0xA0, 0xA0, BLANK},         {"\xC2", 0xAD, 0xAD, INVISIBLE},
    {"\xD8", 0x9C, 0x9C, INVISIBLE},     {"\xE2\x80", 0x80, 0x8A, BLANK},
    {"\xE2\x80", 0x8B, 0x8F, INVISIBLE}, {"\xE2\x80", 0x90, 0x95, DASH},
    {"\xE2\x80", 0x98, 0x9F, QUOTE},     {"\xE2\x80", 0xA8, 0xAE, INVISIBLE},
    {"\xE2\x80", 0xAF, 0xAF, BLANK},     {"\xE2\x81", 0x9F, 0x9F, BLANK},
    {"\xE2\x81", 0xA0, 0xAF, INVISIBLE}, {"\xE2\x88", 0x92, 0x92, DASH},
    {"\xE3\x80", 0x80, 0x80, BLANK},     {"\xEF\xBB", 0xBF, 0xBF, INVISIBLE},
    {"\xEF\xBC", 0x8B, 0x8B, PLUS},
};

static const char *strange_character(const char *s, size_t n)
{
    size_t i;
    for (i = 0; i < sizeof characters / sizeof characters[0]; i++) {
        size_t len = strlen(characters[i].lead);
        if (n > len && memcmp(s, characters[i].lead, len) == 0
            && (unsigned char)s[len] >= characters[i].from
            && (unsigned char)s[len] <= characters[i].to)
            return characters[i].text;
    }
    return "not an ASCII digit; digits of other scripts are not taken";
}

/* What a byte that is no digit probably was; 'n' bytes are left from there on. */
static const char *strange_byte(const char *s, size_t n)
{
    unsigned char c = (unsigned char)*s;
    if (c == '\0')
        return "a NUL byte; only digits may follow the '+'";
    if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        return "a blank or line end; write the digits without any";
    if (c == '-' || c == '.' || c == '(' || c == ')' || c == '/')
        return "punctuation; write the digits without any";
    if (c == '\'' || c == '"' || c == '`')
        return QUOTE;
    if (c == '=')
        return "an '=', as of a formula; write '+' and the digits alone";
    if (c == ',' || c == ';')
        return "punctuation; one number belongs here, without an extension";
    if (ksms_is_alpha((char)c))
        return "a letter; only digits may follow the '+'";
    if (c == '+')
        return "a second '+'; only digits may follow the first";
    if (c >= 0x80)
        return strange_character(s, n);
    return "not a digit; only digits may follow the '+'";
}

/* Is this what a spreadsheet makes of a number: "9.19876E+11"? */
static int is_scientific(const char *s, size_t n)
{
    size_t i = n > 0 && s[0] == '+';
    while (i < n && (ksms_is_digit(s[i]) || s[i] == '.' || s[i] == ','))
        i++;
    return i > 0 && i + 2 < n && ksms_lower(s[i]) == 'e'
           && (s[i + 1] == '+' || ksms_is_digit(s[i + 1]));
}

/* Does it begin with a prefix such as "tel:", of any name? */
static int has_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n && ksms_is_alpha(s[i]))
        i++;
    return i > 0 && i < n && s[i] == ':';
}

/* The fault of a text that does not begin with '+'. */
static const char *no_plus(const char *s, size_t n)
{
    size_t i, digits = 0;
    for (i = 0; i < n; i++)
        digits += (size_t)ksms_is_digit(s[i]);
    if (has_prefix(s, n))
        return "a prefix such as 'tel:'; write '+' and the digits alone";
    if (n >= 3 && memcmp(s, "011", 3) == 0)
        return "the dialling prefix '011'; write '+' in its place";
    if (n >= 2 && memcmp(s, "00", 2) == 0)
        return "the dialling prefix '00'; write '+' in its place";
    if (digits == n && n <= 6)
        return "no '+': this looks like a short code, which is no E.164 number";
    if (ksms_is_digit(s[0]))
        return "no '+': begin with '+' and the country code";
    return strange_byte(s, n);
}

static const char *first_fault(const char *s, size_t n, size_t *at)
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
            return strange_byte(s + i, n - i);
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

const char *ksms_e164_fault(const char *s, size_t n, size_t *at)
{
    const char *fault = first_fault(s, n, at);
    if (fault == NULL || !is_scientific(s, n))
        return fault;
    *at = 1;
    return "scientific notation, in which digits are lost; make the column text, and enter "
           "the numbers anew";
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
