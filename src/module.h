/*
** module.h - what each C module needs of its process: how often that was forked since the module
** was loaded, and that the module stays in memory. A child must use neither its parent's
** connections nor its random bytes; to ask the system who we are for each message would cost a
** call each time.
*/
#ifndef ksms_module_h
#define ksms_module_h

#include "compat.h"

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

extern unsigned ksms_forks;

/*
** To be called first where a module is opened, with the function that opens it. Raises an error
** where the interpreter or the system will not do.
*/
void ksms_open_module(lua_State *L, lua_CFunction opens);

/*
** Keeps the library that has a function in memory to the end of the process. Returns its handle;
** NULL where the system does not do that.
*/
void *ksms_keep_library(void (*function)(void));

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
