// libcurand: the provider asks for the library and for nothing in it.
const char standin_curand[] = "nothing is asked for";
