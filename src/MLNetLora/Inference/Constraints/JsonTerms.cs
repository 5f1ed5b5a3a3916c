using System.Globalization;
using System.Text;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>The parts of JSON that all schemas share; their masks are made once for a tokenizer.</summary>
internal static class JsonTerms
{
    /// <summary>Digits before and behind a point: with 15, every number is exact in a double.</summary>
    public const int Digits = 15;

    /// <summary>Most characters of an indentation.</summary>
    private const int Indentation = 32;

    /// <summary>Their store, which is closed: any number of threads may use it.</summary>
    public static TermStore Store { get; } = new() { WorkLeft = long.MaxValue };

    /// <summary>A decimal digit.</summary>
    public static Term Digit { get; } = Store.Bytes(ByteSet.Range((byte)'0', (byte)'9'));

    /// <summary>
    /// White space between parts: none, a space, or a line break with an indentation. So json.dumps writes and so models write that indent; bounded, because a
    /// model that has lost its way would write it without end.
    /// </summary>
    public static Term Space { get; } = Store.Union(
        TermStore.Epsilon,
        Store.Literal(" "),
        Store.Sequence(Store.Literal("\n"), Store.Repeat(Store.Bytes(ByteSet.Of(" \t")), 0, Indentation)));

    /// <summary>A character in a string in any spelling; surrogates come in pairs only.</summary>
    public static Term Character { get; } = AnyCharacter();

    /// <summary>A string.</summary>
    public static Term String { get; } = Quoted(Store.Repeat(Character, 0, Term.Unlimited));

    /// <summary>The names of properties that a schema does not name.</summary>
    public static Term Name { get; } = Quoted(Store.Repeat(Spell(Store, CharacterSet.All), 0, Term.Unlimited));

    /// <summary>An integer.</summary>
    public static Term Integer { get; } = Store.Sequence(
        Store.Optional(Store.Literal("-")),
        Store.Union(Store.Literal("0"), Store.Sequence(Store.Bytes(ByteSet.Of("123456789")), Store.Repeat(Digit, 0, Digits - 1))));

    /// <summary>A number.</summary>
    public static Term Number { get; } = Store.Sequence(
        Integer,
        Store.Optional(Store.Sequence(Store.Literal("."), Store.Repeat(Digit, 1, Digits))),
        Store.Optional(Store.Sequence(Store.Bytes(ByteSet.Of("eE")), Store.Optional(Store.Bytes(ByteSet.Of("+-"))), Store.Repeat(Digit, 1, 2))));

    /// <summary>null, true or false.</summary>
    public static Term Null { get; } = Store.Literal("null");

    /// <summary>true or false.</summary>
    public static Term Boolean { get; } = Store.Union(Store.Literal("true"), Store.Literal("false"));

    /// <summary>What is neither object nor array.</summary>
    public static Term Scalar { get; } = Store.Union(String, Number, Null, Boolean);

    /// <summary>Thinking up to its end, and the line breaks behind it.</summary>
    public static Term Thinking { get; } = Store.Sequence(
        Without(Store, ThinkTags.Close), Store.Literal(ThinkTags.Close), Store.Repeat(Store.Literal("\n"), 0, 2));

    /// <summary>The same behind the tag that begins it.</summary>
    public static Term WholeThinking { get; } = Store.Sequence(Store.Literal(ThinkTags.Open), Thinking);

    /// <summary>Between the name of a property and its value.</summary>
    public static Term Colon { get; } = Store.Sequence(Store.Literal(":"), Space);

    /// <summary>Between two values.</summary>
    public static Term Comma { get; } = Store.Sequence(Store.Literal(","), Space);

    /// <summary>Begins an object.</summary>
    public static Term OpenObject { get; } = Store.Sequence(Store.Literal("{"), Space);

    /// <summary>Ends an object that has properties.</summary>
    public static Term CloseObject { get; } = Store.Sequence(Space, Store.Literal("}"));

    /// <summary>Ends an object that has none.</summary>
    public static Term CloseEmptyObject { get; } = Store.Literal("}");

    /// <summary>Begins an array.</summary>
    public static Term OpenArray { get; } = Store.Sequence(Store.Literal("["), Space);

    /// <summary>Ends an array that has items.</summary>
    public static Term CloseArray { get; } = Store.Sequence(Space, Store.Literal("]"));

    /// <summary>Ends an array that has none.</summary>
    public static Term CloseEmptyArray { get; } = Store.Literal("]");

    static JsonTerms()
    {
        Store.Close();
    }

    /// <summary>A string of characters.</summary>
    public static Term Quoted(TermStore store, Term characters) => store.Sequence(store.Literal("\""), characters, store.Literal("\""));

    /// <summary>A character of a set in a string, in one spelling each: escaped only where it must be.</summary>
    public static Term Spell(TermStore store, CharacterSet set)
    {
        CharacterSet escaped = CharacterSet.Range(0, 0x1F).Or(CharacterSet.Of("\"\\"));
        List<Term> parts = [set.And(escaped.Not()).Utf8(store)];
        foreach ((int first, int last) in set.And(escaped).Ranges)
        {
            for (int c = first; c <= last; c++)
            {
                parts.Add(store.Literal(Escape((char)c)));
            }
        }

        return store.Union(parts);
    }

    /// <summary>A text as a string, as <see cref="Spell"/> writes it.</summary>
    public static string Quote(string text)
    {
        StringBuilder quoted = new("\"");
        foreach (char c in text)
        {
            quoted.Append(c is < ' ' or '"' or '\\' ? Escape(c) : c.ToString());
        }

        return quoted.Append('"').ToString();
    }

    /// <summary>Bytes among which a text does not stand.</summary>
    public static Term Without(TermStore store, string text)
    {
        Term anything = store.Repeat(store.Bytes(ByteSet.All), 0, Term.Unlimited);
        return store.Complement(store.Sequence(anything, store.Literal(text), anything));
    }

    private static Term Quoted(Term characters) => Quoted(Store, characters);

    private static string Escape(char c) => c switch
    {
        '"' => "\\\"",
        '\\' => @"\\",
        '\b' => @"\b",
        '\f' => @"\f",
        '\n' => @"\n",
        '\r' => @"\r",
        '\t' => @"\t",
        _ => string.Create(CultureInfo.InvariantCulture, $@"\u{(int)c:x4}"),
    };

    private static Term AnyCharacter()
    {
        CharacterSet plain = CharacterSet.Range(0, 0x1F).Or(CharacterSet.Of("\"\\")).Not();
        Term hexadecimal = One("0123456789abcdefABCDEF");
        Term two = Store.Sequence(hexadecimal, hexadecimal);
        Term notSurrogate = Store.Union(Store.Sequence(One("0123456789ABCEFabcef"), hexadecimal, two), Store.Sequence(One("Dd"), One("01234567"), two));
        Term pair = Store.Sequence(One("Dd"), One("89ABab"), two, Store.Literal(@"\u"), One("Dd"), One("CDEFcdef"), two);
        return Store.Union(
            plain.Utf8(Store),
            Store.Sequence(Store.Literal("\\"), Store.Union(
                Store.Bytes(ByteSet.Of("\"\\/bfnrt")),
                Store.Sequence(Store.Literal("u"), Store.Union(notSurrogate, pair)))));

        static Term One(string characters) => Store.Bytes(ByteSet.Of(characters));
    }
}
