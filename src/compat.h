/*
** compat.h - the few differences between the C APIs of Lua 5.1 (LuaJIT),
** 5.2, 5.3, 5.4 and later. Everything here is a static with our own prefix:
** LuaJIT exports part of the 5.2 API under the public names, so defining
** one of those names would fail on one build and clash on another.
*/
#ifndef ksms_compat_h
#define ksms_compat_h

#include <lua.h>
#include <lauxlib.h>

#if LUA_VERSION_NUM >= 502

#define ksms_setfuncs(L, l) luaL_setfuncs(L, l, 0)
#define ksms_rawlen(L, i)   ((size_t)lua_rawlen(L, i))
/* A build for 5.4 loads into LuaJIT without complaint and reads wrong
   upvalues there; with this call the loader refuses it. */
#define ksms_checkversion(L) luaL_checkversion(L)

#else

static inline void ksms_setfuncs(lua_State *L, const luaL_Reg *l)
{
    for (; l->name != NULL; l++) {
        lua_pushcfunction(L, l->func);
        lua_setfield(L, -2, l->name);
    }
}

#define ksms_rawlen(L, i)    lua_objlen(L, i)
#define ksms_checkversion(L) ((void)(L))

#endif

#if LUA_VERSION_NUM >= 504
#define ksms_newuserdata(L, n) lua_newuserdatauv(L, n, 0)
#else
#define ksms_newuserdata(L, n) lua_newuserdata(L, n)
#endif

/*
** Creates the class 'name' with methods 'l' (reachable by __index), and
** 'gc' as finalizer; on 5.4 also as __close. Leaves nothing on the stack.
** The class is registered once it is complete, so that an error in between
** leaves none without a finalizer.
*/
static inline void ksms_newclass(lua_State *L, const char *name, const luaL_Reg *l,
                                 lua_CFunction gc)
{
    luaL_getmetatable(L, name);
    if (lua_isnil(L, -1)) {
        lua_newtable(L);
        lua_newtable(L);
        ksms_setfuncs(L, l);
        lua_setfield(L, -2, "__index");
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__gc");
#if LUA_VERSION_NUM >= 504
        lua_pushcfunction(L, gc);
        lua_setfield(L, -2, "__close");
#endif
        /* getmetatable() answers the name: a caller can neither change the
           class nor reach its finalizer. */
        lua_pushstring(L, name);
        lua_setfield(L, -2, "__metatable");
        lua_pushstring(L, name);
        lua_setfield(L, -2, "__name");
        lua_setfield(L, LUA_REGISTRYINDEX, name);
    }
    lua_pop(L, 1);
}

/* Sets the metatable of the value on top of the stack. */
static inline void ksms_setclass(lua_State *L, const char *name)
{
    luaL_getmetatable(L, name);
    lua_setmetatable(L, -2);
}

#endif
