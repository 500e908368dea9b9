/*
** lua_host.c - an interpreter for the memory specs: its allocators fail when a script says so.
**
**   lua_host SCRIPT [ARGUMENT...]
**
** Five kinds of memory pass through here: that of the Lua state, that of the C modules (which
** are linked for this program with --wrap=malloc and so on), libcurl's, OpenSSL's, and SQLite's
** where this is compiled with KSMS_SQLITE. libpq takes no allocator. The script sees the table
** 'host':
**
**   host.try(n, kinds, from, f, ...)  calls f(...) in protected mode, in which the n-th
**                       request for memory fails, and where 'from' is true each one after it,
**                       too; 'kinds' is a text that holds the letters of those that count:
**                       l(ua), m(odules), c(url), o(penssl), s(qlite). Leaves how many
**                       requests there were, how many failed, and what 'pcall' would leave. 0 fails none.
**   host.failed()       how many requests of the call that runs have failed so far
**   host.live()         the blocks that the modules, libcurl and SQLite hold now
**   host.descriptors()  how many descriptors are open
**   host.secret(text)   looks from now on for this text in each block that the modules give back
**   host.unwiped()      in how many it was
**
** Only requests of the thread that calls count: libcurl's resolver has threads of its own.
** A block that grows always moves, so that AddressSanitizer sees whoever kept its old address.
*/
#define _GNU_SOURCE

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <openssl/crypto.h>
#ifdef KSMS_SQLITE
#include <sqlite3.h>
#endif

#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>

enum kind { LUA, MODULES, CURL_LIBRARY, OPENSSL, SQLITE, KINDS };

static const char letters[] = "lmcos";

/* What is armed, of one thread. */
static __thread struct {
    int counts[KINDS];
    int from;
    long at, requests, failed;
} armed;

/* Other threads allocate, too. */
static long live;

/* Is this request to fail? */
static int fails(enum kind kind)
{
    if (!armed.counts[kind])
        return 0;
    armed.requests++;
    if (armed.at == 0 || armed.requests < armed.at
        || (!armed.from && armed.requests > armed.at))
        return 0;
    armed.failed++;
    return 1;
}

/* What must not be left in memory that is given back. */
static char secret[256];
static size_t secret_length;
static long unwiped;

static void look_into(const void *block)
{
    if (block != NULL && secret_length > 0
        && memmem(block, malloc_usable_size((void *)block), secret, secret_length) != NULL)
        __atomic_fetch_add(&unwiped, 1, __ATOMIC_RELAXED);
}

static void keep_count(long change)
{
    __atomic_fetch_add(&live, change, __ATOMIC_RELAXED);
}


/* ------------------------------------------------------------------- Lua's */

static void *move_block(void *old, size_t old_size, size_t size)
{
    void *block = malloc(size);
    if (block == NULL || old == NULL)
        return block;
    memcpy(block, old, old_size < size ? old_size : size);
    free(old);
    return block;
}

static void *lua_memory(void *unused, void *old, size_t old_size, size_t size)
{
    (void)unused;
    if (size == 0) {
        free(old);
        return NULL;
    }
    /* Lua takes for granted that a block can become smaller. */
    if (old != NULL && size <= old_size)
        return move_block(old, old_size, size);
    return fails(LUA) ? NULL : move_block(old, old_size, size);
}


/* -------------------------------------------------- the modules' and libcurl's */

static void *new_block(enum kind kind, size_t size)
{
    void *block = fails(kind) ? NULL : malloc(size);
    keep_count(block != NULL);
    return block;
}

static void *new_array(enum kind kind, size_t count, size_t size)
{
    void *block = fails(kind) ? NULL : calloc(count, size);
    keep_count(block != NULL);
    return block;
}

static void *grown_block(enum kind kind, void *old, size_t size)
{
    void *block = fails(kind) ? NULL : realloc(old, size);
    keep_count(old == NULL && block != NULL);
    return block;
}

static char *new_text(enum kind kind, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = (char *)new_block(kind, n);
    return copy != NULL ? (char *)memcpy(copy, text, n) : NULL;
}

static void drop_block(void *block)
{
    keep_count(block != NULL ? -1 : 0);
    free(block);
}

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *block);

void *__wrap_malloc(size_t size) { return new_block(MODULES, size); }
void *__wrap_calloc(size_t count, size_t size) { return new_array(MODULES, count, size); }
void *__wrap_realloc(void *old, size_t size)
{
    look_into(old);
    return grown_block(MODULES, old, size);
}
char *__wrap_strdup(const char *text) { return new_text(MODULES, text); }
void __wrap_free(void *block)
{
    look_into(block);
    drop_block(block);
}

static void *curl_malloc(size_t size) { return new_block(CURL_LIBRARY, size); }
static void *curl_calloc(size_t count, size_t size)
{
    return new_array(CURL_LIBRARY, count, size);
}
static void *curl_realloc(void *old, size_t size)
{
    return grown_block(CURL_LIBRARY, old, size);
}
static char *curl_strdup(const char *text) { return new_text(CURL_LIBRARY, text); }


/* -------------------------------------------------------------------- OpenSSL's */

static void *crypto_malloc(size_t size, const char *file, int line)
{
    (void)file; (void)line;
    return fails(OPENSSL) ? NULL : malloc(size);
}

static void *crypto_realloc(void *old, size_t size, const char *file, int line)
{
    (void)file; (void)line;
    return fails(OPENSSL) ? NULL : realloc(old, size);
}

static void crypto_free(void *block, const char *file, int line)
{
    (void)file; (void)line;
    free(block);
}


/* -------------------------------------------------------------------- SQLite's */

#ifdef KSMS_SQLITE

static void *sqlite_malloc(int size) { return new_block(SQLITE, (size_t)size); }
static void *sqlite_realloc(void *old, int size) { return grown_block(SQLITE, old, (size_t)size); }
static int sqlite_size(void *block) { return (int)malloc_usable_size(block); }
static int sqlite_roundup(int size) { return (size + 7) & ~7; }
static int sqlite_begin(void *unused) { (void)unused; return SQLITE_OK; }
static void sqlite_end(void *unused) { (void)unused; }

static int own_sqlite(void)
{
    static const sqlite3_mem_methods methods = {sqlite_malloc, drop_block, sqlite_realloc,
                                                sqlite_size, sqlite_roundup, sqlite_begin,
                                                sqlite_end, NULL};
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) == SQLITE_OK;
}

#else

static int own_sqlite(void) { return 1; }

#endif


/* ------------------------------------------------------------ what scripts see */

static int host_try(lua_State *L)
{
    long at = (long)luaL_checknumber(L, 1), requests, failed;
    const char *kinds = luaL_checkstring(L, 2);
    int from = lua_toboolean(L, 3), status, i;
    luaL_checktype(L, 4, LUA_TFUNCTION);
    luaL_checkstack(L, 10, NULL);
    memset(&armed, 0, sizeof armed);
    armed.at = at;
    armed.from = from;
    for (i = 0; i < KINDS; i++)
        armed.counts[i] = strchr(kinds, letters[i]) != NULL;
    status = lua_pcall(L, lua_gettop(L) - 4, LUA_MULTRET, 0);
    requests = armed.requests;
    failed = armed.failed;
    memset(&armed, 0, sizeof armed);
    luaL_checkstack(L, 10, NULL);
    lua_pushboolean(L, status == 0);
    lua_insert(L, 4);
    lua_pushinteger(L, (lua_Integer)failed);
    lua_insert(L, 4);
    lua_pushinteger(L, (lua_Integer)requests);
    lua_insert(L, 4);
    return lua_gettop(L) - 3;
}

static int host_failed(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)armed.failed);
    return 1;
}

static int host_live(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)__atomic_load_n(&live, __ATOMIC_RELAXED));
    return 1;
}

static int host_secret(lua_State *L)
{
    const char *text = luaL_checklstring(L, 1, &secret_length);
    luaL_argcheck(L, secret_length > 0 && secret_length <= sizeof secret, 1, "too long");
    memcpy(secret, text, secret_length);
    return 0;
}

static int host_unwiped(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)__atomic_load_n(&unwiped, __ATOMIC_RELAXED));
    return 1;
}

static int host_descriptors(lua_State *L)
{
    DIR *directory = opendir("/proc/self/fd");
    int n = 0;
    if (directory == NULL)
        return luaL_error(L, "there is no /proc/self/fd");
    while (readdir(directory) != NULL)
        n++;
    (void)closedir(directory);
    lua_pushinteger(L, n);
    return 1;
}

static const luaL_Reg functions[] = {
    {"try", host_try},
    {"failed", host_failed},
    {"live", host_live},
    {"descriptors", host_descriptors},
    {"secret", host_secret},
    {"unwiped", host_unwiped},
    {NULL, NULL}
};

/* The message with a traceback, where 'debug' is still there. */
static int explain(lua_State *L)
{
    lua_getglobal(L, "debug");
    lua_getfield(L, -1, "traceback");
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 2);
    lua_call(L, 2, 1);
    return 1;
}

static int run_script(lua_State *L, int argc, char **argv)
{
    const luaL_Reg *f;
    int i;
    luaL_openlibs(L);
    lua_newtable(L);
    for (f = functions; f->name != NULL; f++) {
        lua_pushcfunction(L, f->func);
        lua_setfield(L, -2, f->name);
    }
    lua_setglobal(L, "host");
    lua_newtable(L);
    for (i = 0; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - 1);
    }
    lua_setglobal(L, "arg");
    lua_pushcfunction(L, explain);
    if (luaL_loadfile(L, argv[1]) == 0 && lua_pcall(L, 0, 0, -2) == 0)
        return 0;
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    return 1;
}

int main(int argc, char **argv)
{
    lua_State *L;
    int status;
    if (argc < 2) {
        fprintf(stderr, "usage: %s SCRIPT [ARGUMENT...]\n", argv[0]);
        return 2;
    }
    if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1
        || curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_malloc, drop_block, curl_realloc,
                                curl_strdup, curl_calloc) != CURLE_OK
        || !own_sqlite()) {
        fprintf(stderr, "the libraries take no allocator\n");
        return 2;
    }
    L = lua_newstate(lua_memory, NULL);
    if (L == NULL) {
        fprintf(stderr, "no Lua state with an allocator of its own\n");
        return 2;
    }
    status = run_script(L, argc, argv);
    lua_close(L);
    return status;
}
