/* throw.c - std::bad_alloc thrown from C, for callers in C++ that look at no return value.
 *
 * The function that throws it is looked up in the C++ library that such a caller has loaded, so that this module needs none itself.
 */
#include <dlfcn.h>

#include "native.h"

void tci_throw_bad_alloc(void) {
  void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
  void (*thrower)(void) = NULL;
  *(void **)&thrower = dlsym(library == NULL ? RTLD_DEFAULT : library, "_ZSt17__throw_bad_allocv");
  if (thrower != NULL) thrower();
}
