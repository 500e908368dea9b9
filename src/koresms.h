/*
** koresms.h - what the C files of koresms share: the version, the shape of
** a returned failure, and the functions that one file offers another.
** Nothing declared here leaves the shared object.
*/
#ifndef ksms_koresms_h
#define ksms_koresms_h

#include <stddef.h>

#include "compat.h"

#define KSMS_VERSION "0.1.0"

#if defined(__GNUC__) && __GNUC__ >= 4
#define KSMS_EXPORT __attribute__((visibility("default")))
#pragma GCC visibility push(hidden)
#else
#define KSMS_EXPORT
#endif

/* A number of E.164 as text: '+' and at most 15 digits. */
#define KSMS_E164_MAX 16

/* Longest value that is taken for an origin, an id or a file's name. */
#define KSMS_NAME_MAX 255

/*
** NULL where the 'n' bytes at 's' are an E.164 number, else a static text
** that says why not; 'at' receives the offending byte's place, from 1, or 0
** where the fault has no place.
*/
const char *ksms_e164_fault(const char *s, size_t n, size_t *at);

/* Each registers its functions into the module table on top of the stack. */
void ksms_open_e164(lua_State *L);
void ksms_open_jwt(lua_State *L);
void ksms_open_random(lua_State *L);
void ksms_open_reader(lua_State *L);
void ksms_open_proxy(lua_State *L);
void ksms_open_request(lua_State *L);
void ksms_open_signal(lua_State *L);
void ksms_open_system(lua_State *L);
void ksms_open_process(lua_State *L);

/* As Lua itself raises it. */
static inline int ksms_no_memory(lua_State *L)
{
    lua_pushliteral(L, "not enough memory");
    return lua_error(L);
}

/* A returned failure: leaves nil, text (already on top) and code. */
static inline int ksms_fail(lua_State *L, const char *code)
{
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushstring(L, code);
    return 3;
}

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
