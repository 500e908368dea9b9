/*
** postgres_run.c - statements of koresms.postgres: sent, waited for within their time, and told
** with the truth about what became of them.
*/
#define _DEFAULT_SOURCE

#include <poll.h>
#include <stdlib.h>

#include "postgres.h"

/* Sends what libpq has. 1, 0 where the time is over, -1 where the connection is lost. */
static int flush(ksms_connection *c)
{
    int unsent, ready;
    while ((unsent = PQflush(c->pg)) == 1) {
        ready = ksms_await(c, POLLIN | POLLOUT);
        if (ready <= 0)
            return ready;
        if ((ready & ~POLLOUT) != 0 && !PQconsumeInput(c->pg))
            return -1;
    }
    return unsent < 0 ? -1 : 1;
}

/* Sends what libpq has, and reads until a whole answer is there. What 'flush' gives. */
static int exchange(ksms_connection *c)
{
    int ready = flush(c);
    if (ready != 1)
        return ready;
    while (PQisBusy(c->pg)) {
        ready = ksms_await(c, POLLIN);
        if (ready <= 0)
            return ready;
        if (!PQconsumeInput(c->pg))
            return -1;
    }
    return 1;
}

/* Takes the answers to one statement; 'r' keeps the last one, or the first
   that tells of a failure. What 'exchange' gives. */
static int receive(ksms_connection *c, ksms_result *r)
{
    for (;;) {
        PGresult *next;
        int state = exchange(c);
        if (state != 1)
            return state;
        next = PQgetResult(c->pg);
        if (next == NULL)
            return PQstatus(c->pg) == CONNECTION_OK ? 1 : -1;
        if (r->pg != NULL && PQresultStatus(r->pg) != PGRES_COMMAND_OK
            && PQresultStatus(r->pg) != PGRES_TUPLES_OK) {
            PQclear(next);
        } else {
            PQclear(r->pg);
            r->pg = next;
        }
        if (PQresultStatus(r->pg) == PGRES_COPY_IN || PQresultStatus(r->pg) == PGRES_COPY_OUT
            || PQresultStatus(r->pg) == PGRES_COPY_BOTH)
            return -1;
    }
}

static int is_good(const ksms_result *r)
{
    ExecStatusType status = PQresultStatus(r->pg);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* The place at which a statement is kept prepared; -1 where it is not. */
static int place_of(const ksms_connection *c, const char *sql, size_t n)
{
    int i;
    for (i = 0; i < c->used; i++)
        if (c->kept[i].length == n && memcmp(c->kept[i].sql, sql, n) == 0)
            return i;
    return -1;
}

/* Prepares a statement under a name. What 'receive' gives; 'place' is -1
   where it was not prepared. */
static int prepare(ksms_connection *c, const char *sql, size_t n, ksms_result *r, int *place)
{
    char name[24], *copy;
    int state;
    *place = place_of(c, sql, n);
    if (*place >= 0 || c->used == KSMS_PREPARED)
        return 1;
    copy = (char *)malloc(n + 1);
    if (copy == NULL)
        return 1;
    memcpy(copy, sql, n + 1);
    (void)snprintf(name, sizeof name, "koresms_%d", c->used);
    state = PQsendPrepare(c->pg, name, sql, 0, NULL) ? receive(c, r) : -1;
    if (state != 1 || !is_good(r)) {
        free(copy);
        return state;
    }
    PQclear(r->pg);
    r->pg = NULL;
    c->kept[c->used].sql = copy;
    c->kept[c->used].length = n;
    *place = c->used++;
    return 1;
}

/* Hands a statement to libpq. What 'receive' gives; 'r' has something where it could not be
   prepared. */
static int begin(ksms_connection *c, const char *sql, size_t n, const parameters *p, ksms_result *r)
{
    int place = -1, state = 1;
    if (c->prepare)
        state = prepare(c, sql, n, r, &place);
    if (state != 1 || r->pg != NULL)
        return state;
    if (place >= 0) {
        char name[24];
        (void)snprintf(name, sizeof name, "koresms_%d", place);
        state = PQsendQueryPrepared(c->pg, name, p->count, p->values, NULL, NULL, 0);
    } else {
        state = PQsendQueryParams(c->pg, sql, p->count, NULL, p->values, NULL, NULL, 0);
    }
    return state ? 1 : -1;
}

/* Whether a statement that was to commit has rolled back: what an aborted
   transaction answers, and libpq calls success. */
static int is_rolled_back(const char *sql, PGresult *r)
{
    while (*sql == ' ' || *sql == '\n' || *sql == '\t' || *sql == '\r')
        sql++;
    return strcmp(PQcmdStatus(r), "ROLLBACK") == 0 && *sql != 'r' && *sql != 'R' && *sql != 'a'
           && *sql != 'A';
}

/* What became of a statement. */
static int report(lua_State *L, ksms_connection *c, const char *sql, ksms_result *r, int state)
{
    char why[KSMS_WHY], code[8];
    const char *given = r->pg == NULL ? NULL : PQresultErrorField(r->pg, PG_DIAG_SQLSTATE);
    (void)snprintf(code, sizeof code, "%s", given != NULL ? given : LOST);
    if (state == 0) {
        (void)snprintf(why, sizeof why, "no answer within %g s", c->limit);
        ksms_leave(c, 1);
        return ksms_pg_fail(L, why, TIMEOUT);
    }
    if (state == 1 && is_good(r)) {
        if (is_rolled_back(sql, r->pg))
            return ksms_pg_fail(L, "the transaction was rolled back: a statement in it had failed",
                                ROLLED_BACK);
        ksms_result_push(L, r->pg);
        return 1;
    }
    if (given != NULL) {
        /* Its details may hold values of rows, which are not for everyone. */
        ksms_keep(why, PQresultErrorField(r->pg, PG_DIAG_MESSAGE_PRIMARY));
        ksms_hide(why, PQpass(c->pg));
    } else {
        ksms_keep_message(c, why);
    }
    if (state != 1 || PQstatus(c->pg) != CONNECTION_OK)
        ksms_leave(c, 1);
    return ksms_pg_fail(L, why, code);
}

/* A result that the collector frees. */
static ksms_result *new_result(lua_State *L)
{
    ksms_result *r = (ksms_result *)ksms_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    ksms_setclass(L, RESULT);
    return r;
}

/*
** Begins the statement that the arguments are, once an earlier one has ended whose answer nobody
** took. Returns how many values it leaves: 0 where it has begun, or '*state' tells why not.
*/
static int begin_statement(lua_State *L, ksms_connection *c, ksms_result **r, int *state)
{
    size_t n;
    const char *sql = luaL_checklstring(L, 2, &n);
    parameters p;
    p.count = ksms_checkparameters(L, 3);
    luaL_argcheck(L, strlen(sql) == n, 2, "a statement without NUL expected");
    *r = new_result(L);
    if (c->pg == NULL || c->forks != ksms_forks)
        return ksms_pg_fail(L,
                            c->pg == NULL
                                ? "the connection is closed"
                                : "the connection belongs to the process that this one was "
                                  "forked from",
                            NOT_CONNECTED);
    if (!ksms_take_parameters(L, 3, &p))
        return ksms_pg_fail(L, "a text with a NUL byte cannot be stored", BAD_CHARACTER);
    c->deadline = ksms_now() + c->limit;
    *state = c->started ? receive(c, *r) : 1;
    c->started = 0;
    if (*state != 1)
        return 0;
    PQclear((*r)->pg);
    (*r)->pg = NULL;
    *state = begin(c, sql, n, &p, *r);
    return 0;
}

/***
Runs one statement, prepared by name unless the connection was made without that.
@function connection:run
@tparam string sql one statement; its parameters are $1, $2
@param ... their values: nil, booleans, numbers, strings without NUL
@treturn[1] table rows by column name; `changes` says how many were written
@treturn[2] nil
@treturn[2] string
@treturn[2] string SQLSTATE; "timeout" where no answer came in time. With that, with class 08,
  57P01, 57P02 and 40003 nobody knows whether the statement took effect
*/
int ksms_connection_run(lua_State *L)
{
    ksms_connection *c = (ksms_connection *)luaL_checkudata(L, 1, CONNECTION);
    ksms_result *r;
    int state, left = begin_statement(L, c, &r, &state);
    if (left > 0)
        return left;
    if (state == 1 && r->pg == NULL)
        state = receive(c, r);
    return report(L, c, lua_tostring(L, 2), r, state);
}

/***
Starts one statement, which the server works at meanwhile; `finish` has to follow. Where `run` or
`start` follows instead, it is waited for and its answer is dropped.
@function connection:start
@tparam string sql as for `run`
@param ... as for `run`
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string
@treturn[2] string as of `run`
*/
int ksms_connection_start(lua_State *L)
{
    ksms_connection *c = (ksms_connection *)luaL_checkudata(L, 1, CONNECTION);
    ksms_result *r;
    int state, left = begin_statement(L, c, &r, &state);
    if (left > 0)
        return left;
    if (state == 1 && r->pg == NULL)
        state = flush(c);
    if (state != 1 || r->pg != NULL)
        return report(L, c, lua_tostring(L, 2), r, state);
    c->started = 1;
    lua_pushboolean(L, 1);
    return 1;
}

/***
Waits for the statement that was started, within the time that it had from its start on.
@function connection:finish
@treturn[1] table as of `run`
@treturn[2] nil
@treturn[2] string
@treturn[2] string as of `run`; "08003" where none is under way
*/
int ksms_connection_finish(lua_State *L)
{
    ksms_connection *c = (ksms_connection *)luaL_checkudata(L, 1, CONNECTION);
    ksms_result *r = new_result(L);
    if (!c->started || c->forks != ksms_forks)
        return ksms_pg_fail(L, "no statement is under way", NOT_CONNECTED);
    c->started = 0;
    return report(L, c, "", r, receive(c, r));
}
