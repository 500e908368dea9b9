/*
** sqlite_rows.c - rows of SQLite's, from a statement to Lua.
*/
#define _POSIX_C_SOURCE 200809L

#include <stdlib.h>

#include "sqlite_rows.h"

#define ROWS "koresms.sqlite.rows"

/* Finalizer. It may be called twice, and on zeroed rows. */
static int rows_free(lua_State *L)
{
    rows *r = (rows *)luaL_checkudata(L, 1, ROWS);
    char *data = r->data;
    r->data = NULL;
    free(data);
    return 0;
}

/* Appends bytes; 0 where there is no memory for them. */
static int put(rows *r, const void *bytes, size_t n)
{
    if (n > r->size - r->used) {
        size_t size = r->size == 0 ? 4096 : r->size;
        char *data;
        while (n > size - r->used) {
            if (size > (size_t)-1 / 2)
                return 0;
            size *= 2;
        }
        data = (char *)realloc(r->data, size);
        if (data == NULL)
            return 0;
        r->data = data;
        r->size = size;
    }
    if (n > 0)
        memcpy(r->data + r->used, bytes, n);
    r->used += n;
    return 1;
}

static int put_text(rows *r, const void *text, size_t n)
{
    return put(r, "s", 1) && put(r, &n, sizeof n) && put(r, text, n);
}

int ksms_rows_put(rows *r, sqlite3_stmt *s, int i)
{
    sqlite3_int64 whole;
    double real;
    const void *text;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_NULL: return put(r, "n", 1);
    case SQLITE_INTEGER:
        whole = sqlite3_column_int64(s, i);
        return put(r, "i", 1) && put(r, &whole, sizeof whole);
    case SQLITE_FLOAT:
        real = sqlite3_column_double(s, i);
        return put(r, "f", 1) && put(r, &real, sizeof real);
    default:
        text = sqlite3_column_blob(s, i);
        return put_text(r, text, (size_t)sqlite3_column_bytes(s, i));
    }
}

int ksms_rows_name(rows *r, sqlite3_stmt *s)
{
    int i;
    r->columns = sqlite3_column_count(s);
    for (i = 0; i < r->columns; i++) {
        const char *name = sqlite3_column_name(s, i);
        if (name == NULL || !put_text(r, name, strlen(name)))
            return 0;
    }
    return 1;
}

/* Pushes the value at 'at' and returns where the next one begins. */
static const char *push_value(lua_State *L, const char *at)
{
    sqlite3_int64 whole;
    double real;
    size_t n;
    switch (*at++) {
    case 'i':
        memcpy(&whole, at, sizeof whole);
        ksms_pushwhole(L, whole);
        return at + sizeof whole;
    case 'f':
        memcpy(&real, at, sizeof real);
        lua_pushnumber(L, (lua_Number)real);
        return at + sizeof real;
    case 's':
        memcpy(&n, at, sizeof n);
        at += sizeof n;
        lua_pushlstring(L, at, n);
        return at + n;
    default: lua_pushnil(L); return at;
    }
}

void ksms_rows_push(lua_State *L, const rows *r, int changes)
{
    const char *at = r->data;
    int names = lua_gettop(L), i;
    size_t row;
    luaL_checkstack(L, r->columns + 8, "too many columns");
    for (i = 0; i < r->columns; i++)
        at = push_value(L, at);
    lua_createtable(L, r->count < 65536 ? (int)r->count : 65536, 1);
    for (row = 1; row <= r->count; row++) {
        lua_createtable(L, 0, r->columns);
        for (i = 1; i <= r->columns; i++) {
            lua_pushvalue(L, names + i);
            at = push_value(L, at);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (int)row);
    }
    lua_pushinteger(L, changes);
    lua_setfield(L, -2, "changes");
}

rows *ksms_rows_new(lua_State *L)
{
    rows *r = (rows *)ksms_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    ksms_setclass(L, ROWS);
    return r;
}

void ksms_rows_open(lua_State *L)
{
    static const luaL_Reg none[] = {{NULL, NULL}};
    ksms_newclass(L, ROWS, none, rows_free);
}
