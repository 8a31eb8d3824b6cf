/* operators.c - the operators of tensors as slots of their type: for each its ufunc, and the rule of its result's type with the kernel that
 * does the same.
 *
 * As C functions they leave no frame on Python's stack, so NumPy's warnings name the user's line. operate.c carries them out.
 */
#include "native.h"

/* slot, ufunc, rule, NumPy's own operator in place */
#define OPERATORS_OF_TWO(X)                                                      \
  X(subtract, "subtract", TCI_RULE_SUBTRACT, PyNumber_InPlaceSubtract)           \
  X(multiply, "multiply", TCI_RULE_MULTIPLY, PyNumber_InPlaceMultiply)           \
  X(true_divide, "true_divide", TCI_RULE_DIVIDE, PyNumber_InPlaceTrueDivide)     \
  X(floor_divide, "floor_divide", TCI_RULE_NUMERIC, PyNumber_InPlaceFloorDivide) \
  X(remainder, "remainder", TCI_RULE_NUMERIC, PyNumber_InPlaceRemainder)         \
  X(matrix_multiply, "matmul", TCI_RULE_OTHER, PyNumber_InPlaceMatrixMultiply)   \
  X(lshift, "left_shift", TCI_RULE_NUMERIC, PyNumber_InPlaceLshift)              \
  X(rshift, "right_shift", TCI_RULE_NUMERIC, PyNumber_InPlaceRshift)             \
  X(and, "bitwise_and", TCI_RULE_SAME, PyNumber_InPlaceAnd)                      \
  X(or, "bitwise_or", TCI_RULE_SAME, PyNumber_InPlaceOr)                         \
  X(xor, "bitwise_xor", TCI_RULE_SAME, PyNumber_InPlaceXor)

#define OPERATORS_OF_ONE(X)                 \
  X(negative, "negative", TCI_RULE_NEGATE)  \
  X(positive, "positive", TCI_RULE_NUMERIC) \
  X(absolute, "absolute", TCI_RULE_REAL)    \
  X(invert, "invert", TCI_RULE_SAME)

static PyObject *power_ufunc, *divmod_ufunc; /* owned for good, as all here */
static PyObject *power_function; /* operator.pow: squares and roots have ways of their own there */
static PyObject *comparisons[6]; /* by Py_LT, Py_LE, Py_EQ, Py_NE, Py_GT, Py_GE */
static PyObject *general_comparisons[6]; /* operator.eq and the like: what is of other types is not equal there, or has fields */

/* An operand of a subclass with an __array_ufunc__ of its own is NumPy's to ask; one with None is none. */
static PyObject *ask(PyObject *ufunc, int overrides, PyObject *left, PyObject *right, PyObject *out) {
  return overrides & 2 ? Py_NewRef(Py_NotImplemented) : PyObject_CallFunctionObjArgs(ufunc, left, right, out, NULL);
}

static PyObject *operate(PyObject *ufunc, PyObject *general, long rule, PyObject *left, PyObject *right) {
  int overrides = tci_holder_overrides(left) | tci_holder_overrides(right);
  return overrides ? ask(ufunc, overrides, left, right, NULL) : tci_operate(ufunc, general, rule, left, right);
}

static PyObject *operate_into(PyObject *ufunc, long rule, binaryfunc in_place, PyObject *left, PyObject *right) {
  int overrides = tci_holder_overrides(left) | tci_holder_overrides(right);
  return overrides ? ask(ufunc, overrides, left, right, left) : tci_operate_into(ufunc, rule, in_place, left, right);
}

static PyObject *operate_one(PyObject *ufunc, long rule, PyObject *operand) {
  if (tci_holder_overrides(operand)) return PyObject_CallFunctionObjArgs(ufunc, operand, NULL);
  return tci_operate_one(ufunc, rule, operand);
}

#define DEFINE_TWO(SLOT, UFUNC, RULE, IN_PLACE)                                                                                           \
  static PyObject *ufunc_##SLOT;                                                                                                          \
  static PyObject *nb_##SLOT(PyObject *left, PyObject *right) { return operate(ufunc_##SLOT, ufunc_##SLOT, RULE, left, right); }          \
  static PyObject *nb_inplace_##SLOT(PyObject *left, PyObject *right) { return operate_into(ufunc_##SLOT, RULE, IN_PLACE, left, right); }
DEFINE_TWO(add, "add", TCI_RULE_ADD, PyNumber_InPlaceAdd)
OPERATORS_OF_TWO(DEFINE_TWO)

/* Of a subclass Python takes this slot for a sequence's += too, asked last, and would give NotImplemented as the result. */
static PyObject *nb_inplace_add_at_last(PyObject *left, PyObject *right) {
  PyObject *result = nb_inplace_add(left, right);
  if (result != Py_NotImplemented) return result;
  Py_DECREF(result);
  return PyNumber_Add(left, right);
}

#define DEFINE_ONE(SLOT, UFUNC, RULE)                                                                \
  static PyObject *ufunc_##SLOT;                                                                     \
  static PyObject *nb_##SLOT(PyObject *operand) { return operate_one(ufunc_##SLOT, RULE, operand); }
OPERATORS_OF_ONE(DEFINE_ONE)

static PyObject *in_place_power(PyObject *left, PyObject *right) { return PyNumber_InPlacePower(left, right, Py_None); }

static PyObject *nb_power(PyObject *left, PyObject *right, PyObject *modulus) {
  if (modulus != Py_None) return Py_NewRef(Py_NotImplemented);
  return operate(power_ufunc, power_function, TCI_RULE_OTHER, left, right);
}

static PyObject *nb_inplace_power(PyObject *left, PyObject *right, PyObject *modulus) {
  if (modulus != Py_None) return Py_NewRef(Py_NotImplemented);
  return operate_into(power_ufunc, TCI_RULE_OTHER, in_place_power, left, right);
}

static PyObject *nb_divmod(PyObject *left, PyObject *right) { return operate(divmod_ufunc, divmod_ufunc, TCI_RULE_OTHER, left, right); }

static PyObject *compare(PyObject *left, PyObject *right, int operation) {
  return operate(comparisons[operation], general_comparisons[operation], TCI_RULE_BOOL, left, right);
}

#define SLOTS_TWO(SLOT, UFUNC, RULE, IN_PLACE) {Py_nb_##SLOT, (void *)nb_##SLOT}, {Py_nb_inplace_##SLOT, (void *)nb_inplace_##SLOT},
#define SLOTS_ONE(SLOT, UFUNC, RULE) {Py_nb_##SLOT, (void *)nb_##SLOT},
const PyType_Slot tci_operator_slots[] = {
    OPERATORS_OF_TWO(SLOTS_TWO) OPERATORS_OF_ONE(SLOTS_ONE) /* */
    {Py_nb_add, (void *)nb_add},
    {Py_nb_inplace_add, (void *)nb_inplace_add_at_last},
    {Py_nb_power, (void *)nb_power},
    {Py_nb_inplace_power, (void *)nb_inplace_power},
    {Py_nb_divmod, (void *)nb_divmod},
    {Py_tp_richcompare, (void *)compare},
    {0, NULL},
};

/* ---- set-up ------------------------------------------------------------------------------------------------------------------------ */

typedef struct wanted {
  PyObject **object;
  const char *name;
} wanted;

static int load_all(const char *module_name, const wanted *list, size_t count) {
  PyObject *module = PyImport_ImportModule(module_name);
  int failed = module == NULL;
  for (size_t i = 0; !failed && i < count; i++) failed = (*list[i].object = PyObject_GetAttrString(module, list[i].name)) == NULL;
  Py_XDECREF(module);
  return failed ? -1 : 0;
}

#define WANT_TWO(SLOT, UFUNC, RULE, IN_PLACE) {&ufunc_##SLOT, UFUNC},
#define WANT_ONE(SLOT, UFUNC, RULE) {&ufunc_##SLOT, UFUNC},
int tci_operators_setup(void) {
  const wanted ufuncs[] = {OPERATORS_OF_TWO(WANT_TWO) OPERATORS_OF_ONE(WANT_ONE) /* */
                           {&ufunc_add, "add"},
                           {&power_ufunc, "power"},
                           {&divmod_ufunc, "divmod"},
                           {&comparisons[Py_LT], "less"},
                           {&comparisons[Py_LE], "less_equal"},
                           {&comparisons[Py_EQ], "equal"},
                           {&comparisons[Py_NE], "not_equal"},
                           {&comparisons[Py_GT], "greater"},
                           {&comparisons[Py_GE], "greater_equal"}};
  const wanted functions[] = {{&power_function, "pow"},
                              {&general_comparisons[Py_LT], "lt"},
                              {&general_comparisons[Py_LE], "le"},
                              {&general_comparisons[Py_EQ], "eq"},
                              {&general_comparisons[Py_NE], "ne"},
                              {&general_comparisons[Py_GT], "gt"},
                              {&general_comparisons[Py_GE], "ge"}};
  if (load_all("numpy._core._multiarray_umath", ufuncs, sizeof ufuncs / sizeof *ufuncs) < 0) return -1;
  return load_all("operator", functions, sizeof functions / sizeof *functions);
}

#define RULE_TWO(SLOT, UFUNC, RULE, IN_PLACE) || tci_ufunc_add_rule(ufunc_##SLOT, 2, RULE) < 0
#define RULE_ONE(SLOT, UFUNC, RULE) || tci_ufunc_add_rule(ufunc_##SLOT, 1, RULE) < 0
int tci_operators_add_rules(void) {
  int failed = tci_ufunc_add_rule(ufunc_add, 2, TCI_RULE_ADD) < 0 OPERATORS_OF_TWO(RULE_TWO) OPERATORS_OF_ONE(RULE_ONE);
  for (size_t i = 0; !failed && i < sizeof comparisons / sizeof *comparisons; i++)
    failed = tci_ufunc_add_rule(comparisons[i], 2, TCI_RULE_BOOL) < 0;
  return failed ? -1 : 0;
}
