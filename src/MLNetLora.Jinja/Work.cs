namespace MLNetLora.Jinja;

/// <summary>What a template does that cannot be: caught where the line is known and turned into a <see cref="JinjaException"/>.</summary>
internal sealed class JinjaFault(string message) : Exception(message);

/// <summary>
/// Counts what one rendering does. A template comes with a checkpoint from anywhere: it may loop forever, double a string forty times or call itself.
/// Every node, every element and every character that it makes is paid for here, so that time and memory are bounded whatever it says.
/// </summary>
/// <param name="budget">How much it may do.</param>
internal sealed class Work(long budget)
{
    /// <summary>Deeper nesting of expressions, statements, macro calls or values is refused, long before the stack ends.</summary>
    public const int DepthLimit = 200;

    private const int CharactersAtOnce = 32; // what a processor compares in the time of a node

    private long _left = budget;
    private int _depth;

    /// <summary>Pays for something.</summary>
    /// <param name="units">About how many nodes, elements or characters it is.</param>
    /// <exception cref="JinjaFault">The budget is spent.</exception>
    public void Charge(long units)
    {
        _left -= units;
        if (_left < 0)
        {
            throw new JinjaFault("the template does more than any conversation needs: it loops without end, or makes a text of unreasonable size");
        }
    }

    /// <summary>Pays for comparing two texts: many characters at a time.</summary>
    public void ChargeComparison(int left, int right) => Charge(Math.Min(left, right) / CharactersAtOnce);

    /// <summary>Pays for looking for one text in another: at the worst nearly all of it is compared at every place.</summary>
    public void ChargeSearch(int text, int sought) => Charge(text + ((long)Math.Max(0, text - sought) * (sought / CharactersAtOnce)));

    /// <summary>Goes one level deeper.</summary>
    /// <exception cref="JinjaFault">It is too deep.</exception>
    public void Enter()
    {
        Charge(1);
        if (++_depth > DepthLimit)
        {
            throw new JinjaFault($"more than {DepthLimit} levels of nesting: a macro calls itself without end, or an expression has too many parts");
        }
    }

    /// <summary>Comes back from one level.</summary>
    public void Leave() => _depth--;
}
