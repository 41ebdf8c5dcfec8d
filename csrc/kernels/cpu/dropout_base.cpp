#include "dropout.h"
#include "isa_base.h"
// The body comes after the level.
#include "dropout_impl.h"
