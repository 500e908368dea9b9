/*
** postgres_values.h - values on their way to PostgreSQL and back.
*/
#ifndef ksms_postgres_values_h
#define ksms_postgres_values_h

/* Debian keeps it in a directory of its own, which only pkg-config knows. */
#if defined(__has_include)
#if __has_include(<libpq-fe.h>)
#include <libpq-fe.h>
#elif __has_include(<postgresql/libpq-fe.h>)
#include <postgresql/libpq-fe.h>
#else
#error "libpq-fe.h is missing; on Debian: apt-get install libpq-dev"
#endif
#else
#include <libpq-fe.h>
#endif

#include "store.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

typedef struct parameters {
    int count;
    const char *values[KSMS_PARAMETERS];
    char numbers[KSMS_PARAMETERS][40];
} parameters;

/* Takes the arguments from 'first' on, which stay on the stack meanwhile. 0
   where one cannot be sent. */
int ksms_take_parameters(lua_State *L, int first, parameters *p);

/* Takes every occurrence of a password out of a text. */
void ksms_hide(char text[KSMS_WHY], const char *secret);

/* Whether libpq can read an address; its text is kept as far as it repeats
   nothing of it. */
int ksms_is_address(const char *where, char why[KSMS_WHY]);

/* Leaves the table of rows. The result is anchored by the caller. */
void ksms_result_push(lua_State *L, PGresult *r);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
