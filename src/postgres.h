/*
** postgres.h - what the files of koresms.postgres share: a connection, and what is done with it.
*/
#ifndef ksms_postgres_h
#define ksms_postgres_h

#include "module.h"
#include "postgres_values.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

#define CONNECTION "koresms.postgres.connection"
#define RESULT     "koresms.postgres.result"

/* Codes of our own, beside SQLSTATE's. */
#define BAD_ADDRESS "config"
#define TIMEOUT     "timeout"

/* SQLSTATE's for what libpq gives none. */
#define NO_CONNECTION "08001"
#define NOT_CONNECTED "08003"
#define LOST          "08006"
#define ROLLED_BACK   "40000"
#define BAD_CHARACTER "22021"

typedef struct ksms_kept {
    char *sql;
    size_t length;
} ksms_kept;

typedef struct ksms_connection {
    PGconn *pg;
    double limit, deadline;
    unsigned forks;
    int prepare;
    int started; /* a statement is under way, whose answer nobody has taken yet */
    int used;    /* of 'kept': its place is a statement's name */
    ksms_kept kept[KSMS_PREPARED];
} ksms_connection;

typedef struct ksms_result {
    PGresult *pg;
} ksms_result;

/* Ends the connection. One that is given up sends nothing more of what waits in the system's
   buffers; in a process that was forked off, nothing reaches the server, to which the parent
   still talks. */
void ksms_leave(ksms_connection *c, int given_up);

/* Keeps what libpq says of the connection, on one line. */
void ksms_keep_message(ksms_connection *c, char why[KSMS_WHY]);

/* Leaves nil, a text and a code. */
int ksms_pg_fail(lua_State *L, const char *text, const char *code);

/* Waits for the socket. Returns what is ready; 0 where the time is over, -1 where the system
   refuses to wait. */
int ksms_await(ksms_connection *c, short events);

/* ---- postgres_run.c: methods of a connection ---- */

int ksms_connection_run(lua_State *L);
int ksms_connection_start(lua_State *L);
int ksms_connection_finish(lua_State *L);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
