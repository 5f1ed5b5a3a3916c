namespace MLNetLora.Inference.Constraints;

/// <summary>The bytes in classes: for every byte the number of its class, from 0. Bytes of one class have one derivative.</summary>
internal static class Partition
{
    /// <summary>All bytes in one.</summary>
    public static readonly byte[] Trivial = new byte[256];

    private static readonly byte[] s_digits = Digits();

    /// <summary>How many classes there are.</summary>
    public static int Count(byte[] classes) => classes.Max() + 1;

    /// <summary>The classes of a term.</summary>
    /// <param name="term">The term.</param>
    /// <param name="known">The classes of its parts.</param>
    /// <param name="meet">The coarsest classes that part what either of two parts: see <see cref="Meet"/>.</param>
    public static byte[] Of(Term term, Func<Term, byte[]> known, Func<byte[], byte[], byte[]> meet)
    {
        switch (term.Kind)
        {
            case TermKind.Bytes:
                byte[] two = new byte[256];
                byte inside = term.Set.Contains(0) ? (byte)0 : (byte)1;
                for (int value = 0; value < 256; value++)
                {
                    two[value] = term.Set.Contains((byte)value) ? inside : (byte)(1 - inside);
                }

                return two;
            case TermKind.Sequence:
                return term.Items[0].IsNullable ? meet(known(term.Items[0]), known(term.Items[1])) : known(term.Items[0]);
            case TermKind.Union or TermKind.Intersection:
                return term.Items.Aggregate(Trivial, (classes, item) => meet(classes, known(item)));
            case TermKind.Repeat or TermKind.Complement: return known(term.Items[0]);
            case TermKind.Multiple: return s_digits;
            default: return Trivial;
        }
    }

    /// <summary>The coarsest classes that part what either parts.</summary>
    public static byte[] Meet(byte[] x, byte[] y)
    {
        if (ReferenceEquals(x, y) || ReferenceEquals(y, Trivial))
        {
            return x;
        }

        if (ReferenceEquals(x, Trivial))
        {
            return y;
        }

        Span<short> numbers = new short[256 * Count(x)];
        int next = 0;
        byte[] classes = new byte[256];
        for (int value = 0; value < 256; value++)
        {
            ref short number = ref numbers[(x[value] * 256) + y[value]];
            if (number == 0)
            {
                number = (short)++next;
            }

            classes[value] = (byte)(number - 1);
        }

        return classes.AsSpan().SequenceEqual(x) ? x : classes;
    }

    private static byte[] Digits()
    {
        byte[] classes = new byte[256];
        for (int digit = 0; digit < 10; digit++)
        {
            classes['0' + digit] = (byte)(digit + 1);
        }

        return classes;
    }
}
