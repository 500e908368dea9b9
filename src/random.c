/*
** random.c - identifiers from the crypto library's generator, and what else that library says.
*/
#include "random.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>

#include "encode.h"
#include "module.h"

void ksms_push_crypto_error(lua_State *L, const char *what)
{
    unsigned long e = ERR_peek_last_error();
    const char *reason = e != 0 ? ERR_reason_error_string(e) : NULL;
    ERR_pop_to_mark();
    if (reason != NULL)
        lua_pushfstring(L, "%s: %s", what, reason);
    else
        lua_pushstring(L, what);
}

#if __STDC_VERSION__ >= 201112L
#define KSMS_THREAD _Thread_local
#else
#define KSMS_THREAD __thread
#endif

/* One call of the generator serves so many identifiers. */
#define ID_BATCH 32

int ksms_draw_id(const unsigned char **id)
{
    static KSMS_THREAD unsigned char batch[ID_BATCH][KSMS_ID_BYTES];
    static KSMS_THREAD int left;
    static KSMS_THREAD unsigned forks;
    if (left == 0 || forks != ksms_forks) {
        if (RAND_bytes(&batch[0][0], sizeof batch) != 1)
            return 0;
        left = ID_BATCH;
        forks = ksms_forks;
    }
    *id = batch[--left];
    return 1;
}

/***
Makes an identifier of 128 random bits.
@function random_id
@treturn[1] string 32 hexadecimal digits
@treturn[2] nil
@treturn[2] string what the crypto library said
*/
static int l_random_id(lua_State *L)
{
    const unsigned char *id;
    char text[2 * KSMS_ID_BYTES];
    ERR_set_mark();
    if (!ksms_draw_id(&id)) {
        lua_pushnil(L);
        ksms_push_crypto_error(L, "no random bytes");
        return 2;
    }
    ERR_pop_to_mark();
    lua_pushlstring(L, text, (size_t)(ksms_hex(text, id, KSMS_ID_BYTES) - text));
    return 1;
}

void ksms_open_random(lua_State *L)
{
    lua_pushcfunction(L, l_random_id);
    lua_setfield(L, -2, "random_id");
#if OPENSSL_VERSION_NUMBER >= 0x10100000L
    lua_pushstring(L, OpenSSL_version(OPENSSL_VERSION));
    lua_setfield(L, -2, "_OPENSSL");
#endif
}
