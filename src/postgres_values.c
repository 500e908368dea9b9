/*
** postgres_values.c - parameters as text, results as tables, and texts that
** hold no password.
*/
#define _POSIX_C_SOURCE 200809L

#include <locale.h>
#include <stdlib.h>

#include "postgres_values.h"

/* Types whose values are not handed on as text. */
#define BOOLEAN 16
#define INT8    20
#define INT2    21
#define INT4    23
#define OID     26
#define FLOAT4  700
#define FLOAT8  701

/* Writes a number as SQL reads it, whatever the locale's decimal point is. */
static void write_number(lua_State *L, int arg, char *out, size_t size)
{
    long long whole;
    char *p;
    if (ksms_iswhole(L, arg, &whole)) {
        (void)snprintf(out, size, "%lld", whole);
        return;
    }
    (void)snprintf(out, size, "%.17g", (double)lua_tonumber(L, arg));
    for (p = out; *p != '\0'; p++)
        if (strchr("0123456789+-e", *p) == NULL)
            break;
    if (*p != '\0') {
        char *digits = p;
        while (*digits != '\0' && strchr("0123456789+-e", *digits) == NULL)
            digits++;
        *p = '.';
        memmove(p + 1, digits, strlen(digits) + 1);
    }
}

int ksms_take_parameters(lua_State *L, int first, parameters *p)
{
    int i;
    for (i = 0; i < p->count; i++) {
        int arg = first + i;
        size_t n;
        switch (lua_type(L, arg)) {
        case LUA_TNIL: p->values[i] = NULL; break;
        case LUA_TBOOLEAN: p->values[i] = lua_toboolean(L, arg) ? "t" : "f"; break;
        case LUA_TNUMBER:
            write_number(L, arg, p->numbers[i], sizeof p->numbers[i]);
            p->values[i] = p->numbers[i];
            break;
        default:
            p->values[i] = lua_tolstring(L, arg, &n);
            if (strlen(p->values[i]) != n)
                return 0;
        }
    }
    return 1;
}

/* A number of PostgreSQL's, whose decimal point may not be the locale's. */
static double read_number(const char *text)
{
    const char *point = localeconv()->decimal_point;
    char copy[64], *p;
    (void)snprintf(copy, sizeof copy, "%s", text);
    p = strchr(copy, '.');
    if (p != NULL && point[0] != '\0' && point[1] == '\0')
        *p = point[0];
    return strtod(copy, NULL);
}

static void push_value(lua_State *L, const PGresult *r, int row, int i)
{
    const char *text = PQgetvalue(r, row, i);
    if (PQgetisnull(r, row, i)) {
        lua_pushnil(L);
        return;
    }
    switch (PQftype(r, i)) {
    case BOOLEAN: lua_pushboolean(L, text[0] == 't'); break;
    case INT8:
    case INT4:
    case INT2:
    case OID: ksms_pushwhole(L, strtoll(text, NULL, 10)); break;
    case FLOAT4:
    case FLOAT8: lua_pushnumber(L, (lua_Number)read_number(text)); break;
    default: lua_pushlstring(L, text, (size_t)PQgetlength(r, row, i));
    }
}

void ksms_result_push(lua_State *L, PGresult *r)
{
    int columns = PQnfields(r), count = PQntuples(r), names = lua_gettop(L), row, i;
    luaL_checkstack(L, columns + 8, "too many columns");
    for (i = 0; i < columns; i++)
        lua_pushstring(L, PQfname(r, i));
    lua_createtable(L, count, 1);
    for (row = 0; row < count; row++) {
        lua_createtable(L, 0, columns);
        for (i = 0; i < columns; i++) {
            lua_pushvalue(L, names + 1 + i);
            push_value(L, r, row, i);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, row + 1);
    }
    ksms_pushwhole(
        L, strncmp(PQcmdStatus(r), "SELECT", 6) == 0 ? 0 : strtoll(PQcmdTuples(r), NULL, 10));
    lua_setfield(L, -2, "changes");
}

void ksms_hide(char text[KSMS_WHY], const char *secret)
{
    size_t n = secret == NULL ? 0 : strlen(secret);
    char *at;
    if (n == 0)
        return;
    while ((at = strstr(text, secret)) != NULL) {
        if (n < 8) {
            ksms_keep(text, "the server's or the library's text is not shown: it holds what "
                            "may be the password");
            return;
        }
        memcpy(at, "***", 3);
        memmove(at + 3, at + n, strlen(at + n) + 1);
    }
}

int ksms_is_address(const char *where, char why[KSMS_WHY])
{
    char *text = NULL;
    PQconninfoOption *parsed = PQconninfoParse(where, &text);
    if (parsed != NULL) {
        PQconninfoFree(parsed);
        return 1;
    }
    (void)snprintf(why, KSMS_WHY, "the database's address cannot be read: %.*s",
                   text == NULL ? 0 : (int)strcspn(text, "\":\n"), text == NULL ? "" : text);
    if (text != NULL)
        PQfreemem(text);
    return 0;
}
