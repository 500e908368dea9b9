/*
** sqlite_rows.h - what a statement gave, kept in memory of our own until it
** has ended.
*/
#ifndef ksms_sqlite_rows_h
#define ksms_sqlite_rows_h

#if defined(__has_include)
#if !__has_include(<sqlite3.h>)
#error "sqlite3.h is missing; on Debian: apt-get install libsqlite3-dev"
#endif
#endif
#include <sqlite3.h>

#include "store.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* Values behind one another, each a tag and its bytes. */
typedef struct rows {
    char *data;
    size_t size, used;
    size_t count;
    int columns;
} rows;

/* Registers the class of rows. Leaves nothing on the stack. */
void ksms_rows_open(lua_State *L);

/* Leaves empty rows on the stack, which own their memory. */
rows *ksms_rows_new(lua_State *L);

/* Both keep what the statement gives; 0 where there is no memory for it. The
   names come first, then the values of each row in turn. */
int ksms_rows_name(rows *r, sqlite3_stmt *s);
int ksms_rows_put(rows *r, sqlite3_stmt *s, int i);

/* Leaves the table of rows. 'r' is anchored by the caller. */
void ksms_rows_push(lua_State *L, const rows *r, int changes);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
