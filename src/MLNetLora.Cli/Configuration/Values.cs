using System.Collections;
using System.Globalization;
using System.Text.RegularExpressions;
using MLNetLora.Adapters;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Cli.Configuration;

/// <summary>A key with what was written behind it.</summary>
/// <param name="Key">The key as it was written: lora_rank, or --rank.</param>
/// <param name="Value">The value.</param>
internal sealed record Given(string Key, ConfigValue Value)
{
    /// <summary>Where it was given.</summary>
    public Place Place => Value.Place;

    /// <summary>The error that names place, key, value, and what it must be.</summary>
    /// <param name="expected">Such as "a whole number".</param>
    public ConfigException Wrong(string expected) => new($"{Prefix}{Key} is {(Value.IsNull ? "empty" : Value.Shown)}; it must be {expected}.");

    /// <summary>An error that names place and key.</summary>
    /// <param name="what">The rest of the sentence.</param>
    public ConfigException Refused(string what) => new($"{Prefix}{Key}: {what}");

    private string Prefix => Place.IsFile ? $"{Place}: " : "";
}

/// <summary>Turns what was written into what an option is.</summary>
internal static partial class Values
{
    /// <summary>Reads a value as a type.</summary>
    /// <param name="type">A type that an option has.</param>
    /// <param name="given">What was written.</param>
    /// <exception cref="ConfigException">It is none; the message says what is expected.</exception>
    public static object? To(Type type, Given given)
    {
        Type inner = Nullable.GetUnderlyingType(type) ?? type;
        return inner switch
        {
            _ when inner == typeof(bool) => Flag(given),
            _ when inner == typeof(int) => checked((int)Whole(given, int.MinValue, int.MaxValue)),
            _ when inner == typeof(double) => Number(given),
            _ when inner == typeof(float) => (float)Number(given),
            _ when inner == typeof(string) => Text(given),
            _ when inner.IsEnum => Enumeration(inner, given),
            _ when inner == typeof(TargetModules) => Targets(given),
            _ when inner == typeof(Device) => ReadDevice(given),
            _ when inner == typeof(IReadOnlyList<string>) => Texts(given),
            _ when inner == typeof(IReadOnlyList<int>) => Wholes(given),
            _ when inner == typeof(IReadOnlyDictionary<string, int>) =>
                Map(given).ToDictionary(item => item.Key, item => (int)Whole(item, int.MinValue, int.MaxValue)),
            _ when inner == typeof(IReadOnlyDictionary<int, float>) => Tokens(given),
            _ when inner == typeof(IReadOnlyDictionary<string, double>) => Map(given).ToDictionary(item => item.Key, Number),
            _ => throw new NotSupportedException($"No value is read as {type}."),
        };
    }

    /// <summary>What a type expects, in the words of messages and of the documentation.</summary>
    public static string Expected(Type type)
    {
        Type inner = Nullable.GetUnderlyingType(type) ?? type;
        return inner switch
        {
            _ when inner == typeof(bool) => "true or false",
            _ when inner == typeof(int) => "a whole number",
            _ when inner == typeof(double) || inner == typeof(float) => "a number",
            _ when inner == typeof(string) => "a text",
            _ when inner.IsEnum => Choices(Names(inner)),
            _ when inner == typeof(TargetModules) => "names, all-linear or a regular expression",
            _ when inner == typeof(Device) => "cpu, cuda or cuda:N",
            _ when inner == typeof(IReadOnlyList<string>) => "a list of texts",
            _ when inner == typeof(IReadOnlyList<int>) => "a list of whole numbers",
            _ when inner == typeof(IReadOnlyDictionary<string, int>) => "names with whole numbers",
            _ when inner == typeof(IReadOnlyDictionary<int, float>) => "token ids with numbers",
            _ => "names with numbers",
        };
    }

    /// <summary>The names that an enumeration has here: snake case of its members.</summary>
    public static string[] Names(Type enumeration) => [.. Enum.GetNames(enumeration).Select(Casing.Snake)];

    /// <summary>A value as it is shown.</summary>
    public static string Show(object? value) => value switch
    {
        null => "(none)",
        bool flag => flag ? "true" : "false",
        string text => text.ReplaceLineEndings("\\n"),
        OptimizerKind.AdamW8Bit => "adamw_8bit",
        OptimizerKind kind => kind.ToString().ToLowerInvariant(),
        Enum item => Casing.Snake(item.ToString()),
        TargetModules targets => targets.Pattern ?? $"[{targets}]",
        IDictionary map => map.Count == 0 ? "(none)" : string.Join(", ", map.Keys.Cast<object>().Select(key => $"{key}: {Show(map[key])}")),
        IEnumerable list => list.Cast<object>().ToArray() is { Length: > 0 } items ? $"[{string.Join(", ", items.Select(Show))}]" : "(none)",
        IFormattable number => number.ToString(null, CultureInfo.InvariantCulture),
        _ => value.ToString() ?? "",
    };

    public static bool Flag(Given given) => Word(given) switch
    {
        "true" or "True" or "TRUE" or "yes" or "Yes" or "YES" or "on" or "On" or "ON" => true,
        "false" or "False" or "FALSE" or "no" or "No" or "NO" or "off" or "Off" or "OFF" => false,
        _ => throw given.Wrong("true or false"),
    };

    public static double Number(Given given) =>
        double.TryParse(Word(given), NumberStyles.Float, CultureInfo.InvariantCulture, out double number) && double.IsFinite(number)
            ? number
            : throw given.Wrong("a number");

    /// <summary>A whole number; 3.0 and 1e3 are some.</summary>
    public static long Whole(Given given, long least = 0, long most = int.MaxValue)
    {
        string? word = Word(given);
        double number = 0;
        bool isWhole = word is not null && double.TryParse(word, NumberStyles.Float, CultureInfo.InvariantCulture, out number) && number == Math.Floor(number);
        return !isWhole ? throw given.Wrong("a whole number")
            : number < least ? throw given.Wrong(FormattableString.Invariant($"{least} or more"))
            : number > most ? throw given.Wrong(FormattableString.Invariant($"at most {most}"))
            : (long)number;
    }

    public static string Text(Given given) => given.Value is ScalarValue scalar ? scalar.Text : throw given.Wrong("a text");

    /// <summary>A list of texts, or one text with commas between.</summary>
    public static IReadOnlyList<string> Texts(Given given) =>
        [.. WholeTexts(given).SelectMany(text => text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))];

    /// <summary>A list of texts, or one text, whatever is in them.</summary>
    public static IReadOnlyList<string> WholeTexts(Given given) => given.Value switch
    {
        ListValue list => [.. list.Items.Select(item => item is ScalarValue { IsNull: false } text ? text.Text : throw given.Wrong("a list of texts"))],
        ScalarValue text => [text.Text],
        _ => throw given.Wrong("a list of texts"),
    };

    /// <summary>Files: a text that names one is one, whatever is in it; in any other, commas part names.</summary>
    public static IReadOnlyList<string> Files(Given given) => [.. WholeTexts(given).SelectMany(text => File.Exists(text)
        ? [text]
        : text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))];

    /// <summary>Reads one of a few words; case, hyphens and underscores do not count.</summary>
    public static T OneOf<T>(Given given, params (string Name, T Value)[] choices)
    {
        string asked = given.Value is ScalarValue scalar ? Casing.Bare(scalar.Text) : throw given.Wrong(Choices(choices.Select(choice => choice.Name)));
        foreach ((string name, T value) in choices)
        {
            if (Casing.Bare(name) == asked)
            {
                return value;
            }
        }

        throw given.Wrong(Choices(choices.Select(choice => choice.Name)));
    }

    /// <summary>
    /// Names of modules. A text that is nothing but names with commas between is a list of them (LLaMA-Factory's way; as an expression it would match nothing),
    /// all and all-linear are every linear layer, and any other text is PEFT's regular expression.
    /// </summary>
    public static TargetModules Targets(Given given)
    {
        if (given.Value is ListValue list)
        {
            string[] names = [.. Texts(given)];
            return names is ["all" or TargetModules.AllLinear] ? TargetModules.AllLinear : list.Items.Count > 0 ? names : throw given.Wrong("one name or more");
        }

        string text = Text(given).Trim();
        return text is "all" or TargetModules.AllLinear ? TargetModules.AllLinear
            : ListOfNames().IsMatch(text) ? text.Split(',', StringSplitOptions.TrimEntries)
            : text;
    }

    public static string Choices(IEnumerable<string> names) => names.ToArray() is [.. string[] first, string last] && first.Length > 0
        ? $"{string.Join(", ", first)} or {last}"
        : string.Join(", ", names);

    private static Device ReadDevice(Given given)
    {
        try
        {
            return Device.Parse(Text(given));
        }
        catch (OptionException e)
        {
            throw new ConfigException(given.Wrong("cpu, cuda or cuda:N, such as cuda:0").Message, e);
        }
    }

    private static object Enumeration(Type type, Given given)
    {
        string[] names = Enum.GetNames(type);
        return Enum.Parse(type, OneOf(given, [.. names.Select(name => (Casing.Snake(name), name))]));
    }

    private static int[] Wholes(Given given)
    {
        IEnumerable<ConfigValue> items = given.Value switch
        {
            ListValue list => list.Items,
            ScalarValue { IsQuoted: false } text =>
                text.Text.Split(',', StringSplitOptions.TrimEntries).Select(part => new ScalarValue(part, IsQuoted: false, text.Place)),
            _ => throw given.Wrong("a list of whole numbers"),
        };
        return [.. items.Select(item => item is ScalarValue { IsQuoted: false } text
            && int.TryParse(text.Text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int number) ? number
            : throw given.Wrong("a list of whole numbers"))];
    }

    private static Dictionary<int, float> Tokens(Given given)
    {
        Dictionary<int, float> tokens = [];
        foreach (Given item in given.Value is MapValue ? Map(given) : throw given.Wrong("token ids with numbers, such as {151667: -100}"))
        {
            tokens[int.TryParse(item.Key, NumberStyles.None, CultureInfo.InvariantCulture, out int id) ? id : throw item.Wrong("behind a token id")] =
                (float)Number(item);
        }

        return tokens;
    }

    private static IEnumerable<Given> Map(Given given) => given.Value is MapValue map
        ? map.Items.Select(item => new Given(item.Key, item.Value))
        : throw given.Wrong("names with numbers, such as {q_proj: 16}");

    /// <summary>An unquoted word; null for what is none.</summary>
    private static string? Word(Given given) => given.Value is ScalarValue { IsQuoted: false } word ? word.Text : null;

    [GeneratedRegex(@"^[A-Za-z0-9_.]+(\s*,\s*[A-Za-z0-9_.]+)*$")]
    private static partial Regex ListOfNames();
}
