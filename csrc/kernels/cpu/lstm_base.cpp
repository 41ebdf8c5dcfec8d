#include "isa_base.h"
#include "lstm.h"
// The body comes after the level.
#include "lstm_impl.h"
