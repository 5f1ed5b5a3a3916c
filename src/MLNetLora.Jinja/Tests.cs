using System.Numerics;

namespace MLNetLora.Jinja;

/// <summary>Jinja's tests: <c>value is name</c>.</summary>
internal static class Tests
{
    /// <summary>Whether a value passes a test.</summary>
    public static bool Apply(Evaluator evaluator, string name, object? value, Arguments arguments)
    {
        Work work = evaluator.Work;
        switch (name)
        {
            case "defined":
                return value is not Undefined;
            case "undefined":
                return value is Undefined;
            case "none":
                return value is null;
            case "boolean":
                return value is bool;
            case "true":
                return value is true;
            case "false":
                return value is false;
            case "integer":
                return value is long or BigInteger;
            case "float":
                return value is double;
            case "number":
                return value is bool or long or double or BigInteger;
            case "string":
                return value is TaggedText;
            case "mapping":
                return value is JinjaDict;
            case "sequence":
                return value is TaggedText or JinjaDict or JinjaList { Kind: not ListKind.Generator } or Undefined;
            case "iterable":
                return value is TaggedText or JinjaDict or JinjaList or Undefined;
            case "callable":
                return value is JinjaFunction or LoopContext;
            case "escaped":
                return false;
            case "sameas":
                object? same = arguments.Require(0, "other");
                return value is bool a && same is bool b ? a == b : ReferenceEquals(value, same);
            case "lower":
            case "upper":
                string text = PythonText.Str(value, work).Value;
                work.Charge(text.Length);
                return (bool)StringMethods.Invoke(new TaggedText(text, Origin.Data), "is" + name, arguments, work)!;
            case "odd":
                return Arithmetic.Apply("%", value, 2L, work) is 1L or 1.0;
            case "even":
                return Arithmetic.Apply("%", value, 2L, work) is 0L or 0.0;
            case "divisibleby":
                return Arithmetic.Apply("%", value, arguments.Require(0, "num"), work) is 0L or 0.0;
            case "in":
                return Python.Contains(arguments.Require(0, "seq"), value, work);
            case "eq" or "equalto" or "==":
                return Python.AreEqual(value, arguments.Require(0, "other"), work);
            case "ne" or "!=":
                return !Python.AreEqual(value, arguments.Require(0, "other"), work);
            case "lt" or "lessthan" or "<":
                return Python.Compare(value, arguments.Require(0, "other"), work) < 0;
            case "le" or "<=":
                return Python.Compare(value, arguments.Require(0, "other"), work) <= 0;
            case "gt" or "greaterthan" or ">":
                return Python.Compare(value, arguments.Require(0, "other"), work) > 0;
            case "ge" or ">=":
                return Python.Compare(value, arguments.Require(0, "other"), work) >= 0;
            case "filter":
                return value is TaggedText filter && Filters.Has(filter.Value);
            default:
                throw new JinjaFault($"the test '{name}' is not known");
        }
    }
}
