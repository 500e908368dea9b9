/*
** sqlite.c - opens koresms.sqlite: SQLite behind the interface that store.h
** describes. A statement has ended, and what it gave is copied, before
** anything is handed to Lua: whatever a collection of garbage calls finds no
** statement under way.
*/
#define _DEFAULT_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "module.h"
#include "sqlite_rows.h"

#define CONNECTION "koresms.sqlite.connection"
#define LOCK       "koresms.sqlite.lock"

/* Steps of SQLite's machine between two looks at the clock. */
#define STEPS 20000

typedef struct kept {
    char *sql;
    size_t length;
    sqlite3_stmt *statement;
} kept;

typedef struct connection {
    sqlite3 *db;
    double limit, deadline;
    unsigned forks;
    int used; /* of 'kept' */
    kept kept[KSMS_PREPARED];
} connection;

/* The system calls these while a statement waits or works. */

static int on_progress(void *user)
{
    return ksms_now() >= ((connection *)user)->deadline;
}

static int on_busy(void *user, int times)
{
    static const long waits[] = {1, 2, 5, 10, 20, 25};
    const int last = (int)(sizeof waits / sizeof waits[0]) - 1;
    double left = ((connection *)user)->deadline - ksms_now();
    struct timespec t = {0, 0};
    if (left <= 0)
        return 0;
    t.tv_nsec = waits[times < last ? times : last] * 1000000;
    if (left < (double)t.tv_nsec * 1e-9)
        t.tv_nsec = (long)(left * 1e9);
    (void)nanosleep(&t, NULL);
    return 1;
}

static void drop(kept *k)
{
    (void)sqlite3_finalize(k->statement); /* repeats what its last step said */
    free(k->sql);
    memset(k, 0, sizeof *k);
}

/***
Ends the connection; also its finalizer. It may be called twice.
@function connection:close
*/
static int connection_close(lua_State *L)
{
    connection *c = (connection *)luaL_checkudata(L, 1, CONNECTION);
    sqlite3 *db = c->db;
    c->db = NULL;
    if (db == NULL)
        return 0;
    /* SQLite wants to be left alone in a process that was forked off. */
    if (c->forks != ksms_forks)
        return 0;
    c->deadline = ksms_now() + c->limit;
    while (c->used > 0)
        drop(&c->kept[--c->used]);
    (void)sqlite3_close_v2(db);
    return 0;
}

/* Runs a bound statement to its end. Returns SQLite's code. */
static int collect(rows *r, sqlite3_stmt *s)
{
    int rc = sqlite3_step(s), i;
    if (!ksms_rows_name(r, s))
        return SQLITE_NOMEM;
    for (; rc == SQLITE_ROW; rc = sqlite3_step(s)) {
        for (i = 0; i < r->columns; i++)
            if (!ksms_rows_put(r, s, i))
                return SQLITE_NOMEM;
        r->count++;
    }
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Leaves nil, text, code. */
static int fail(lua_State *L, const char *text, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushfstring(L, "%d", code);
    return 3;
}

/* Whether nothing but blanks and semicolons stands at 's'. */
static int is_over(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\n' || *s == '\t' || *s == '\r' || *s == ';'))
        s++;
    return s >= end;
}

/* Prepares a statement, or finds it prepared. The caller owns it where 'own'
   says so. */
static int prepare(connection *c, const char *sql, size_t n, sqlite3_stmt **out, int *own,
                   char why[KSMS_WHY])
{
    const char *tail = NULL;
    kept *k;
    int i, rc;
    *own = 0;
    for (i = 0; i < c->used; i++)
        if (c->kept[i].length == n && memcmp(c->kept[i].sql, sql, n) == 0) {
            *out = c->kept[i].statement;
            return SQLITE_OK;
        }
    rc = sqlite3_prepare_v3(c->db, sql, (int)n, SQLITE_PREPARE_PERSISTENT, out, &tail);
    if (rc != SQLITE_OK) {
        ksms_keep(why, sqlite3_errmsg(c->db));
        return rc;
    }
    *own = 1;
    if (*out == NULL || !is_over(tail, sql + n)) {
        ksms_keep(why, *out == NULL ? "no statement was given"
                                    : "more than one statement was given; each is run by itself");
        return SQLITE_MISUSE;
    }
    if (c->used == KSMS_PREPARED)
        return SQLITE_OK;
    k = &c->kept[c->used];
    k->sql = (char *)malloc(n + 1);
    if (k->sql == NULL)
        return SQLITE_OK;
    memcpy(k->sql, sql, n + 1);
    k->length = n;
    k->statement = *out;
    c->used++;
    *own = 0;
    return SQLITE_OK;
}

/* Binds the arguments from 'first' on, which stay on the stack meanwhile. */
static int bind(lua_State *L, sqlite3_stmt *s, int first, int n)
{
    int i, rc = SQLITE_OK;
    for (i = 1; i <= n && rc == SQLITE_OK; i++) {
        int arg = first + i - 1;
        long long whole;
        size_t length;
        const char *text;
        switch (lua_type(L, arg)) {
        case LUA_TNIL: rc = sqlite3_bind_null(s, i); break;
        case LUA_TBOOLEAN: rc = sqlite3_bind_int(s, i, lua_toboolean(L, arg)); break;
        case LUA_TNUMBER:
            rc = ksms_iswhole(L, arg, &whole)
                     ? sqlite3_bind_int64(s, i, whole)
                     : sqlite3_bind_double(s, i, (double)lua_tonumber(L, arg));
            break;
        default:
            text = lua_tolstring(L, arg, &length);
            rc = length > 0x7fffffff ? SQLITE_TOOBIG
                                     : sqlite3_bind_text(s, i, text, (int)length, SQLITE_STATIC);
        }
    }
    return rc;
}

/***
Runs one statement.
@function connection:run
@tparam string sql one statement; its parameters are ?1, ?2
@param ... their values: nil, booleans, numbers, strings
@treturn[1] table rows by column name; `changes` says how many were written
@treturn[2] nil
@treturn[2] string
@treturn[2] string SQLite's extended result code, in digits
*/
static int connection_run(lua_State *L)
{
    connection *c = (connection *)luaL_checkudata(L, 1, CONNECTION);
    size_t n;
    const char *sql = luaL_checklstring(L, 2, &n);
    int count = ksms_checkparameters(L, 3), rc, own = 0, changes = 0;
    sqlite3_stmt *s = NULL;
    char why[KSMS_WHY] = "";
    rows *r;
    luaL_argcheck(L, n < 0x7fffffff, 2, "statement too long");
    r = ksms_rows_new(L);
    if (c->db == NULL || c->forks != ksms_forks)
        return fail(L,
                    c->db == NULL
                        ? "the connection is closed"
                        : "the connection belongs to the process that this one was forked from",
                    SQLITE_MISUSE);
    c->deadline = ksms_now() + c->limit;
    rc = prepare(c, sql, n, &s, &own, why);
    if (rc == SQLITE_OK && sqlite3_bind_parameter_count(s) != count) {
        (void)snprintf(why, sizeof why, "the statement has %d parameters, and %d were given",
                       sqlite3_bind_parameter_count(s), count);
        rc = SQLITE_RANGE;
    }
    if (rc == SQLITE_OK) {
        int before = sqlite3_total_changes(c->db);
        rc = bind(L, s, 3, count);
        if (rc == SQLITE_OK)
            rc = collect(r, s);
        if (rc != SQLITE_OK) {
            int extended = sqlite3_extended_errcode(c->db);
            if ((extended & 0xff) == (rc & 0xff))
                rc = extended;
            ksms_keep(why, rc == SQLITE_NOMEM ? "out of memory" : sqlite3_errmsg(c->db));
        }
        changes = sqlite3_total_changes(c->db) - before;
        (void)sqlite3_reset(s);          /* repeats what the last step said */
        (void)sqlite3_clear_bindings(s); /* always OK */
    }
    if (own)
        (void)sqlite3_finalize(s);
    if (rc != SQLITE_OK)
        return fail(L, why, rc);
    ksms_rows_push(L, r, changes);
    return 1;
}

/***
How long each statement may take from now on, waits for other connections included.
@function connection:limit
@tparam number seconds
*/
static int connection_limit(lua_State *L)
{
    connection *c = (connection *)luaL_checkudata(L, 1, CONNECTION);
    c->limit = ksms_checklimit(L, 2);
    return 0;
}

/* A new file is for its owner alone; SQLite gives its other files the same
   rights. 0, or the system's reason. */
static int make_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return errno == EEXIST ? 0 : errno;
    return close(fd) == 0 ? 0 : errno;
}

/***
Opens a database.
@function connect
@tparam string where a file
@tparam[opt] table options `create`: make a missing file (0600); `limit`: seconds that a
  statement may take (30)
@treturn[1] connection
@treturn[2] nil
@treturn[2] string
@treturn[2] string SQLite's extended result code, in digits
*/
static int l_connect(lua_State *L)
{
    const char *where = luaL_checkstring(L, 1);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, rc, reason;
    char why[KSMS_WHY];
    connection *c;
    double limit;
    luaL_argcheck(L, strlen(where) == ksms_rawlen(L, 1), 1, "a name without NUL expected");
    if (!lua_isnoneornil(L, 2))
        luaL_checktype(L, 2, LUA_TTABLE);
    limit = ksms_optlimit(L, 2, "limit");
    c = (connection *)ksms_newuserdata(L, sizeof *c);
    memset(c, 0, sizeof *c);
    ksms_setclass(L, CONNECTION);
    c->limit = limit;
    c->forks = ksms_forks;
    c->deadline = ksms_now() + limit;
    if (ksms_optflag(L, 2, "create", 0) && (reason = make_file(where)) != 0)
        return fail(L, strerror(reason), SQLITE_CANTOPEN);
    rc = sqlite3_open_v2(where, &c->db, flags, NULL);
    if (rc != SQLITE_OK) {
        ksms_keep(why, c->db == NULL ? "out of memory" : sqlite3_errmsg(c->db));
        (void)sqlite3_close(c->db); /* it has no statements */
        c->db = NULL;
        return fail(L, why, rc);
    }
    (void)sqlite3_extended_result_codes(c->db, 1);
    (void)sqlite3_busy_handler(c->db, on_busy, c);
    sqlite3_progress_handler(c->db, STEPS, on_progress, c);
    return 1;
}

typedef struct lock {
    int fd; /* one more than the descriptor; 0: none */
} lock;

/***
Gives the lock up; also its finalizer. It may be called twice.
@function lock:close
*/
static int lock_close(lua_State *L)
{
    lock *l = (lock *)luaL_checkudata(L, 1, LOCK);
    int fd = l->fd - 1;
    l->fd = 0;
    if (fd >= 0)
        (void)close(fd); /* nothing was written */
    return 0;
}

/***
Takes a lock that the system drops when this process ends, however it ends.
@function lock
@tparam string path a file, which is made and left
@treturn[1] lock its method `close`, and its collection, give it back
@treturn[2] nil
@treturn[2] string
@treturn[2] string "busy" where another has it, else "lock"
*/
static int l_lock(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    lock *l = (lock *)ksms_newuserdata(L, sizeof *l);
    int fd, reason;
    memset(l, 0, sizeof *l);
    ksms_setclass(L, LOCK);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, S_IRUSR | S_IWUSR);
    l->fd = fd + 1;
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 1;
    reason = errno;
    l->fd = 0;
    if (fd >= 0)
        (void)close(fd); /* nothing was written */
    lua_pushnil(L);
    lua_pushstring(L, strerror(reason));
    lua_pushstring(L, fd >= 0 && reason == EWOULDBLOCK ? "busy" : "lock");
    return 3;
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_sqlite(lua_State *L);
KSMS_EXPORT int luaopen_koresms_sqlite(lua_State *L)
{
    static const luaL_Reg methods[] = {{"run", connection_run},
                                       {"limit", connection_limit},
                                       {"close", connection_close},
                                       {NULL, NULL}};
    static const luaL_Reg lock_methods[] = {{"close", lock_close}, {NULL, NULL}};
    ksms_open_module(L, luaopen_koresms_sqlite);
    ksms_newclass(L, CONNECTION, methods, connection_close);
    ksms_rows_open(L);
    ksms_newclass(L, LOCK, lock_methods, lock_close);
    lua_newtable(L);
    lua_pushcfunction(L, l_connect);
    lua_setfield(L, -2, "connect");
    lua_pushcfunction(L, l_lock);
    lua_setfield(L, -2, "lock");
    lua_pushstring(L, sqlite3_libversion());
    lua_setfield(L, -2, "version");
    return 1;
}
