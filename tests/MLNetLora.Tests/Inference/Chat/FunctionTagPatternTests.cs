using System.Text.RegularExpressions;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

/// <summary>Calls in tags as an expression: what matches it is read as a call again.</summary>
public class FunctionTagPatternTests
{
    private static readonly AIFunction s_pay = AIFunctionFactory.Create(
        (string to, int amount, bool now, DayOfWeek? day = null, double rate = 1) => to, "pay.it");

    private static readonly AIFunction s_time = AIFunctionFactory.Create(() => 1, "time");

    [Theory]
    [InlineData("time", "", true)]
    [InlineData("pay.it", "to=an <a> b\nc;amount=-12;now=true", true)]
    [InlineData("pay.it", "to=;amount=0;now=false;rate=1.5", true)]
    [InlineData("pay.it", "to=a;amount=1", false)]
    [InlineData("pay.it", "to=a;amount=x;now=true", false)]
    [InlineData("pay.it", "to=a</b;amount=1;now=true", false)]
    [InlineData("pay_it", "", false)]
    [InlineData("other", "", false)]
    public void A_call_matches_where_it_has_what_is_required(string name, string arguments, bool matches)
    {
        IEnumerable<string> parameters = arguments.Split(';', StringSplitOptions.RemoveEmptyEntries).Select(pair => pair.Split('='))
            .Select(pair => $"<parameter={pair[0]}>\n{pair[1]}\n</parameter>\n");
        string body = $"<function={name}>\n{string.Concat(parameters)}</function>";
        string call = $"<tool_call>\n{body}\n</tool_call>";
        Assert.Equal(matches, Matches(call, several: false));
        Assert.Equal(matches, Matches($"{call}\n{call}", several: true));
        Assert.False(Matches($"{call}\n{call}", several: false));
        _ = OutputConstraint.Regex(FunctionTagPattern.Of([s_pay, s_time], several: true)); // which takes fewer expressions than .NET
        if (matches)
        {
            FunctionCallContent read = ToolCallSyntax.Parse(body, new Dictionary<string, System.Text.Json.JsonElement> { [s_pay.Name] = s_pay.JsonSchema })!;
            Assert.Equal(Regex.Count(body, "<parameter="), read.Arguments!.Count);
        }
    }

    private static bool Matches(string text, bool several) =>
        Regex.IsMatch(text, $"^(?:{FunctionTagPattern.Of([s_pay, s_time], several)})$(?!\n)", RegexOptions.ECMAScript);
}
