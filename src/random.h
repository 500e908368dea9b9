/*
** random.h - identifiers that nobody can guess, and what the crypto library says.
*/
#ifndef ksms_random_h
#define ksms_random_h

#if defined(__has_include)
#if !__has_include(<openssl/evp.h>)
#error "koresms needs OpenSSL's headers: install libssl-dev (Debian, \
Ubuntu), openssl-devel (Fedora), openssl-dev (Alpine), openssl (Homebrew)"
#endif
#endif

#include "koresms.h"

#define KSMS_ID_BYTES 16 /* 128 random bits */

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/*
** Points '*id' at KSMS_ID_BYTES fresh random bytes; 0 where there are none. A
** forked child draws others than its parent, and so does each thread that runs a Lua.
*/
int ksms_draw_id(const unsigned char **id);

/*
** Pushes "what: OpenSSL's reason", forgetting the errors that came since the
** caller's ERR_set_mark. Reasons are fixed texts and hold nothing secret.
*/
void ksms_push_crypto_error(lua_State *L, const char *what);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
