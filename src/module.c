/*
** module.c - counts the forks of this process, and keeps libraries in memory.
*/
#define _GNU_SOURCE /* dladdr, RTLD_NODELETE */

#include "module.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

unsigned ksms_forks;

static void count_fork(void)
{
    ksms_forks++;
}

void *ksms_keep_library(void (*function)(void))
{
    void *address;
    Dl_info info;
    memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
        return NULL;
    return dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

void ksms_open_module(lua_State *L, lua_CFunction opens)
{
    static int watching, kept;
    ksms_checkversion(L);
    if (!watching)
        watching = pthread_atfork(NULL, NULL, count_fork) == 0;
    if (!watching)
        luaL_error(L, "the system does not say when a process is forked");
    /*
    ** At the end of a program Lua 5.1 and LuaJIT unload a module while objects that were made
    ** before it was loaded are still to be finalized; LuaJIT also finalizes after that what those
    ** have made. Where the system does not keep it, all is as it would be without.
    */
    if (!kept)
        kept = ksms_keep_library((void (*)(void))opens) != NULL;
}
